package secret_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"cardea/internal/secret"
)

const canary = "canary-9f31-do-not-print"

// forms are the spellings in which a leaked secret could show up.
func forms() []string {
	return []string{
		canary, hex.EncodeToString([]byte(canary)), strings.ToUpper(hex.EncodeToString([]byte(canary))),
		base64.StdEncoding.EncodeToString([]byte(canary))[:24], fmt.Sprintf("%d", []byte(canary))[1:20],
	}
}

func TestNoPrinterReachesTheBytes(t *testing.T) {
	s := secret.Copy([]byte(canary))
	nested := struct{ hidden secret.Bytes }{s}
	exported := struct{ Key secret.Bytes }{s}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%p"} {
		fmt.Fprintf(&out, verb, s)
		fmt.Fprintf(&out, verb, &s)
		fmt.Fprintf(&out, verb, nested)
		fmt.Fprintf(&out, verb, &nested)
		fmt.Fprintf(&out, verb, exported)
		fmt.Fprintf(&out, verb, []secret.Bytes{s})
	}
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h).Info("m", slog.Any("bare", s), slog.Any("nested", nested), slog.Any("exported", exported))
	}
	for _, form := range forms() {
		if strings.Contains(out.String(), form) {
			t.Errorf("a printer showed the secret as %.8q…", form)
		}
	}
}

func TestSerialisersRefuse(t *testing.T) {
	s := secret.Copy([]byte(canary))
	if _, err := json.Marshal(struct{ K secret.Bytes }{s}); !errors.Is(err, secret.ErrNotSerialisable) {
		t.Errorf("json.Marshal: got %v, want ErrNotSerialisable", err)
	}
	if _, err := s.MarshalBinary(); !errors.Is(err, secret.ErrNotSerialisable) {
		t.Errorf("MarshalBinary: got %v, want ErrNotSerialisable", err)
	}
}

func TestDestroyWipesEveryCopy(t *testing.T) {
	raw := []byte(canary)
	a := secret.New(raw)
	b := a
	a.Destroy()
	a.Destroy()
	if b.Len() != 0 {
		t.Error("a copy still holds bytes after Destroy")
	}
	if !bytes.Equal(raw, make([]byte, len(canary))) {
		t.Error("Destroy left the memory as it was")
	}
}

func TestEqual(t *testing.T) {
	a, b := secret.Copy([]byte("a")), secret.Copy([]byte("b"))
	if a.Equal(b) || !a.Equal(secret.Copy([]byte("a"))) {
		t.Error("Equal does not compare the bytes")
	}
	if (secret.Bytes{}).Equal(a) {
		t.Error("the empty secret equals another")
	}
}

func TestUnmarshalTextCopies(t *testing.T) {
	var v struct{ K secret.Bytes }
	if err := json.Unmarshal([]byte(`{"K":"abc"}`), &v); err != nil {
		t.Fatal(err)
	}
	if !v.K.Equal(secret.Copy([]byte("abc"))) {
		t.Error("the text did not arrive")
	}
}

func TestRandomDiffers(t *testing.T) {
	if secret.Random(32).Equal(secret.Random(32)) {
		t.Error("two random secrets are equal")
	}
}
