package kmsapi_test

import (
	"context"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"net/http"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"

	"cardea/internal/identity"
	"cardea/internal/kms"
	"cardea/internal/kmsapi"
)

// literals calls f with every string in the source of a package, tests apart.
func literals(t *testing.T, pattern string, f func(file, text string)) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatal("no source", err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
				if text, err := strconv.Unquote(l.Value); err == nil {
					f(name, text)
				}
			}
			return true
		})
	}
}

// TestEveryErrorOfTheServiceHasAStatus reads the codes that package kms names from
// its source.
func TestEveryErrorOfTheServiceHasAStatus(t *testing.T) {
	t.Parallel()
	found := 0
	literals(t, "../kms/*.go", func(file, text string) {
		if len(text) < len("XException") || !strings.HasSuffix(text, "Exception") || strings.ContainsAny(text, " .") {
			return
		}
		found++
		if _, ok := kmsapi.Statuses()[kms.Code(text)]; !ok {
			t.Errorf("%s: %s has no status", file, text)
		}
	})
	if found < 20 {
		t.Errorf("found only %d codes", found)
	}
}

// TestEveryErrorOfSTSHasAStatus reads the codes of package identity.
func TestEveryErrorOfSTSHasAStatus(t *testing.T) {
	t.Parallel()
	f, err := parser.ParseFile(token.NewFileSet(), "../identity/errors.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	ast.Inspect(f, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok || len(v.Values) != 1 || !strings.HasPrefix(v.Names[0].Name, "Code") {
			return true
		}
		if l, ok := v.Values[0].(*ast.BasicLit); ok {
			found++
			if code, _ := strconv.Unquote(l.Value); kmsapi.QueryStatuses()[identity.Code(code)] == 0 {
				t.Errorf("%s has no status", code)
			}
		}
		return true
	})
	if found < 10 {
		t.Errorf("found only %d codes", found)
	}
}

func TestStatusesAreThoseThatAWSSends(t *testing.T) {
	t.Parallel()
	other := map[kms.Code]int{
		kms.CodeInternal: 500, kms.CodeKeyUnavailable: 500, kms.CodeDependencyTimeout: 503, "RequestEntityTooLargeException": 413,
	}
	for code, status := range kmsapi.Statuses() {
		want := http.StatusBadRequest
		if s, ok := other[code]; ok {
			want = s
		}
		if status != want {
			t.Errorf("%s: got %d, want %d", code, status, want)
		}
	}
}

// doer answers every request of the SDK by itself and keeps it.
type doer struct {
	status int
	answer string
	header http.Header
	body   string
}

func (d *doer) Do(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		d.body = string(b)
	}
	d.header = r.Header
	return &http.Response{
		StatusCode: d.status, Request: r, Body: io.NopCloser(strings.NewReader(d.answer)),
		Header: http.Header{"Content-Type": {"application/x-amz-json-1.1"}},
	}, nil
}

func (d *doer) client() *awskms.Client {
	return awskms.New(awskms.Options{
		Region: region, HTTPClient: d, Retryer: aws.NopRetryer{}, Credentials: credentials.NewStaticCredentialsProvider(rootID, rootSecret, ""),
	})
}

// TestModelledErrorsAreTypedInTheSDK fails for an exception of the SDK that the
// table lacks, but for those of external key stores, and for one that the SDK does
// not know again.
func TestModelledErrorsAreTypedInTheSDK(t *testing.T) {
	t.Parallel()
	statuses, n := kmsapi.Statuses(), 0
	for id := range awskms.TypeRegistry.Entries {
		_, code, _ := strings.Cut(id, "#")
		if !strings.HasSuffix(code, "Exception") {
			continue
		}
		status, ok := statuses[kms.Code(code)]
		if !ok {
			if !strings.HasPrefix(code, "Xks") {
				t.Errorf("%s has no status", code)
			}
			continue
		}
		n++
		d := &doer{status: status, answer: kmsapi.EncodeError(&kms.Error{Code: kms.Code(code), Message: "é <text> of \"it\"", Reason: "hidden"})}
		_, err := d.client().DescribeKey(context.Background(), &awskms.DescribeKeyInput{KeyId: aws.String("x")})
		var e smithy.APIError
		if !errors.As(err, &e) {
			t.Errorf("%s: got %v", code, err)
			continue
		}
		if name := reflect.TypeOf(e).Elem().Name(); name != code || e.ErrorCode() != code || e.ErrorMessage() != "é <text> of \"it\"" {
			t.Errorf("%s: got %s %v", code, name, e)
		}
		if strings.Contains(d.answer, "hidden") {
			t.Errorf("%s: the reason is in the answer", code)
		}
	}
	if n < 35 {
		t.Errorf("only %d errors compared", n)
	}
}

func TestAnEmptyMessageIsLeftOut(t *testing.T) {
	t.Parallel()
	if got, want := kmsapi.EncodeError(&kms.Error{Code: kms.CodeInvalidCiphertext}), `{"__type":"InvalidCiphertextException"}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestAnUnknownErrorTellsNothing(t *testing.T) {
	t.Parallel()
	for _, err := range []error{errors.New("database: password is x"), &kms.Error{Code: "NewException", Message: "password is x"}} {
		if code, message, status := kmsapi.AnswerTo(err); code != "KMSInternalException" || message != "The request failed inside the key service." || status != 500 {
			t.Errorf("%v: got %d %s %q", err, status, code, message)
		}
	}
}
