package apptest

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"cardea/internal/identity"
)

// keyTexts are plaintexts that are nowhere else.
var keyTexts = []string{"Marmalade-Velociraptor-0815", "p1nnated-quincunx-halberd", "pw-Okapi7Gramophone", "thirty-two bytes of imported key", plainText}

// TestKeyServiceCanary uses the key service for all that has secrets, under load,
// and sends secrets in wrong places. Then it looks for all of them, plaintexts, data
// keys, private keys, imported material, secret access keys, session tokens, grant
// tokens and second factors: in the files of the database and its write-ahead log
// while the node runs and after, in every table, in the log, the metrics, the
// answers to requests that failed, and what the audit commands print. Nothing may be
// found, in no form.
func TestKeyServiceCanary(t *testing.T) {
	t.Parallel()
	for name := range databases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := installKeys(t, name)
			in.talkative(t)
			n := in.start(t)
			in.bootstrap(t)
			c := &keyCanary{canary: canary{find: newSearcher()}, secrets: map[string]string{}}
			c.find.addKeyFile(t, "root key", in.root)
			for i, s := range keyTexts {
				c.secrets[fmt.Sprintf("text %d", i+1)] = s
			}
			c.secrets["the administrator's secret access key"] = in.creds.SecretAccessKey
			c.identities(t, in)
			sessions := c.sessions(t, n, in.creds)
			c.load(t, n, in.creds, sessions)
			for name, s := range c.secrets {
				c.find.addText(name, s)
			}
			if c.find.in([]byte(`{"Plaintext":"`+base64.StdEncoding.EncodeToString([]byte(keyTexts[0]))+`"}`)) == "" {
				t.Error("the search finds nothing")
			}
			c.misuse(t, n, in.creds)
			c.search(t, "metrics", get(t, n.ops+"/metrics"))
			c.search(t, "readiness", get(t, n.ops+"/readyz"))
			in.run(t, "audit", "verify", "--config", in.config, "--key-service") // beside the running node
			c.searchFiles(t, in.installation, "while it runs")
			n.kill(t)
			c.searchFiles(t, in.installation, "after SIGKILL")
			c.search(t, "log", []byte(n.log.String()))

			n = in.start(t)
			n.stop(t)
			c.search(t, "log of the second run", []byte(n.log.String()))
			c.searchFiles(t, in.installation, "after a stop")
			c.searchTables(t, in.installation)
			for _, format := range []string{"cardea", "cloudtrail"} {
				export := filepath.Join(in.dir, "audit."+format)
				in.run(t, "audit", "export", "--config", in.config, "--key-service", "--format", format, export)
				text, err := os.ReadFile(export)
				if err != nil || len(text) < 100_000 {
					t.Fatalf("%d bytes, %v", len(text), err)
				}
				c.search(t, "audit export as "+format, text)
			}
			c.search(t, "audit show", in.run(t, "audit", "show", "--config", in.config, "--key-service"))
			c.search(t, "config check --print", in.run(t, "config", "check", "--config", in.config, "--print"))
			t.Logf("%d requests done, %d refused; %d secrets; %d MB searched for %d forms", c.stored, c.refused, len(c.secrets), c.searched>>20, c.find.count)
			if c.stored < 200 || c.refused < 50 || len(c.secrets) < 150 {
				t.Errorf("%d requests done, %d refused, %d secrets: too few to say anything", c.stored, c.refused, len(c.secrets))
			}
		})
	}
}

type keyCanary struct {
	canary
	secrets map[string]string // by what they are; guarded by mu while there is load
}

// keep notes a secret that came back.
func (c *keyCanary) keep(what string, b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.secrets[fmt.Sprintf("%s %d", what, len(c.secrets))] = string(b)
}

// done counts a request that must work.
func (c *keyCanary) done(t *testing.T, what string, err error) bool {
	c.mu.Lock()
	c.stored++
	c.mu.Unlock()
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
	return err == nil
}

// identities makes a user with an access key and a second factor.
func (c *keyCanary) identities(t *testing.T, in *keyInstallation) {
	t.Helper()
	var k identity.NewAccessKey
	var d identity.NewMFADevice
	for _, call := range []struct {
		op      string
		in, out any
	}{
		{"CreateUser", &identity.CreateUserInput{Account: keyAccount, Name: "bob"}, nil},
		{"CreateAccessKey", &identity.EntityInput{Account: keyAccount, Name: "bob"}, &k},
		{"EnableMFA", &identity.MFAInput{Account: keyAccount, User: "bob"}, &d},
	} {
		err := in.admin.Call(t.Context(), "identity/"+call.op, call.in, call.out)
		if err != nil && call.op == "EnableMFA" && strings.Contains(os.Getenv("GODEBUG"), "fips140=only") {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	c.keep("bob's secret access key", k.Secret.Expose())
	_, rest, _ := strings.Cut(string(d.URI.Expose()), "secret=")
	seed, _, _ := strings.Cut(rest, "&")
	c.keep("seed of a second factor", []byte(seed))
}

// signed makes a signed request with a body of its own.
func signed(ctx context.Context, url, service, target, body string, creds aws.Credentials) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/", strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	if service == "sts" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	} else {
		r.Header.Set("Content-Type", "application/x-amz-json-1.1")
		r.Header.Set("X-Amz-Target", target)
	}
	sum := sha256.Sum256([]byte(body))
	return r, v4.NewSigner().SignHTTP(ctx, creds, r, hex.EncodeToString(sum[:]), service, keyRegion, time.Now())
}

// sessions gets temporary credentials.
func (c *keyCanary) sessions(t *testing.T, n *node, creds aws.Credentials) (out []aws.Credentials) {
	t.Helper()
	find := func(body []byte, name string) string {
		m := regexp.MustCompile("<" + name + ">([^<]+)</" + name + ">").FindSubmatch(body)
		if m == nil {
			t.Fatal("GetSessionToken answers without a " + name)
		}
		return string(m[1])
	}
	for range 4 {
		r, err := signed(t.Context(), n.url, "sts", "", "Action=GetSessionToken&Version=2011-06-15", creds)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if !c.done(t, "GetSessionToken", err) {
			continue
		}
		s := aws.Credentials{AccessKeyID: find(body, "AccessKeyId"), SecretAccessKey: find(body, "SecretAccessKey"), SessionToken: find(body, "SessionToken")}
		c.keep("a session's secret access key", []byte(s.SecretAccessKey))
		c.keep("session token", []byte(s.SessionToken))
		out = append(out, s)
	}
	return out
}

// load does all that has secrets, from many clients.
func (c *keyCanary) load(t *testing.T, n *node, root aws.Credentials, sessions []aws.Credentials) {
	var wg sync.WaitGroup
	for _, creds := range append(sessions, root, root) {
		wg.Go(func() {
			k := sdk(n, creds, 1)
			for i := range 4 {
				c.symmetric(t, k, keyTexts[i%2])
				c.asymmetric(t, k)
			}
			c.imported(t, k)
		})
	}
	wg.Wait()
}

func (c *keyCanary) createKey(t *testing.T, k *kms.Client, in kms.CreateKeyInput) *string {
	out, err := k.CreateKey(t.Context(), &in)
	if !c.done(t, "CreateKey", err) {
		t.FailNow()
	}
	return out.KeyMetadata.Arn
}

func (c *keyCanary) symmetric(t *testing.T, k *kms.Client, text string) {
	ctx, pairs := t.Context(), map[string]string{"tenant": "acme"}
	key := c.createKey(t, k, kms.CreateKeyInput{})
	e, err := k.Encrypt(ctx, &kms.EncryptInput{KeyId: key, Plaintext: []byte(text), EncryptionContext: pairs})
	if !c.done(t, "Encrypt", err) {
		return
	}
	d, err := k.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: e.CiphertextBlob, EncryptionContext: pairs})
	if c.done(t, "Decrypt", err) && string(d.Plaintext) != text {
		t.Error("Decrypt gives another plaintext")
	}
	r, err := k.ReEncrypt(ctx, &kms.ReEncryptInput{CiphertextBlob: e.CiphertextBlob, SourceEncryptionContext: pairs, DestinationKeyId: key})
	if c.done(t, "ReEncrypt", err) {
		_, err = k.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: r.CiphertextBlob})
		c.done(t, "Decrypt", err)
	}
	g, err := k.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: key, KeySpec: types.DataKeySpecAes256})
	if c.done(t, "GenerateDataKey", err) {
		c.keep("data key", g.Plaintext)
	}
	p, err := k.GenerateDataKeyPair(ctx, &kms.GenerateDataKeyPairInput{KeyId: key, KeyPairSpec: types.DataKeyPairSpecEccNistP256})
	if c.done(t, "GenerateDataKeyPair", err) {
		c.keep("data key pair", p.PrivateKeyPlaintext)
		c.keep("scalar of a data key pair", p.PrivateKeyPlaintext[36:68]) // RFC 5915 in RFC 5208
	}
	b, err := k.GenerateRandom(ctx, &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(24)})
	if c.done(t, "GenerateRandom", err) {
		c.keep("random bytes", b.Plaintext)
	}
	a, err := k.CreateGrant(ctx, &kms.CreateGrantInput{
		KeyId: key, GranteePrincipal: aws.String("arn:aws:iam::" + keyAccount + ":user/bob"), Operations: []types.GrantOperation{types.GrantOperationEncrypt},
	})
	if c.done(t, "CreateGrant", err) {
		c.keep("grant token", []byte(*a.GrantToken))
	}
}

func (c *keyCanary) asymmetric(t *testing.T, k *kms.Client) {
	ctx := t.Context()
	agree := c.createKey(t, k, kms.CreateKeyInput{KeySpec: types.KeySpecEccNistP256, KeyUsage: types.KeyUsageTypeKeyAgreement})
	p, err := k.GetPublicKey(ctx, &kms.GetPublicKeyInput{KeyId: agree})
	if c.done(t, "GetPublicKey", err) {
		s, err := k.DeriveSharedSecret(ctx, &kms.DeriveSharedSecretInput{
			KeyId: agree, KeyAgreementAlgorithm: types.KeyAgreementAlgorithmSpecEcdh, PublicKey: p.PublicKey,
		})
		if c.done(t, "DeriveSharedSecret", err) {
			c.keep("shared secret", s.SharedSecret)
		}
	}
	mac := c.createKey(t, k, kms.CreateKeyInput{KeySpec: types.KeySpecHmac256, KeyUsage: types.KeyUsageTypeGenerateVerifyMac})
	_, err = k.GenerateMac(ctx, &kms.GenerateMacInput{KeyId: mac, MacAlgorithm: types.MacAlgorithmSpecHmacSha256, Message: []byte(keyTexts[1])})
	c.done(t, "GenerateMac", err)
	sign := c.createKey(t, k, kms.CreateKeyInput{KeySpec: types.KeySpecEccNistP256, KeyUsage: types.KeyUsageTypeSignVerify})
	_, err = k.Sign(ctx, &kms.SignInput{KeyId: sign, SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256, Message: []byte(keyTexts[0])})
	c.done(t, "Sign", err)
}

// imported imports a key.
func (c *keyCanary) imported(t *testing.T, k *kms.Client) {
	ctx := t.Context()
	key := c.createKey(t, k, kms.CreateKeyInput{Origin: types.OriginTypeExternal})
	p, err := k.GetParametersForImport(ctx, &kms.GetParametersForImportInput{
		KeyId: key, WrappingAlgorithm: types.AlgorithmSpecRsaesOaepSha256, WrappingKeySpec: types.WrappingKeySpecRsa2048,
	})
	if !c.done(t, "GetParametersForImport", err) {
		return
	}
	wrap, err := x509.ParsePKIXPublicKey(p.PublicKey)
	if err != nil {
		t.Error(err)
		return
	}
	sealed, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, wrap.(*rsa.PublicKey), []byte(keyTexts[3]), nil)
	if err != nil {
		t.Error(err)
		return
	}
	_, err = k.ImportKeyMaterial(ctx, &kms.ImportKeyMaterialInput{
		KeyId: key, EncryptedKeyMaterial: sealed, ImportToken: p.ImportToken, ExpirationModel: types.ExpirationModelTypeKeyMaterialDoesNotExpire,
	})
	if !c.done(t, "ImportKeyMaterial", err) {
		return
	}
	e, err := k.Encrypt(ctx, &kms.EncryptInput{KeyId: key, Plaintext: []byte(keyTexts[0])})
	if c.done(t, "Encrypt", err) {
		_, err = k.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: e.CiphertextBlob})
		c.done(t, "Decrypt", err)
	}
}

// wrongKeys are requests with a secret where none belongs, or in one that is
// refused: # stands for it, and @ for its base64.
func wrongKeys(arn string) []struct{ target, body string } {
	key := `"KeyId":"` + arn + `"`
	return []struct{ target, body string }{
		{"Encrypt", `{` + key + `,"Plaintext":"#"}`}, // not base64
		{"Encrypt", `{` + key + `,"Plaintext":["#"]}`},
		{"Encrypt", `{` + key + `,"Plaintext":{"#":"#"}}`},
		{"Encrypt", `{` + key + `,"Plaintext":"@","GrantTokens":["#"]}`},
		{"Encrypt", `{` + key + `,"Plaintext":"@","EncryptionAlgorithm":"RSAES_OAEP_SHA_256"}`},
		{"Encrypt", `{` + key + `,"Plaintext":"@","EncryptionContext":"#"}`},
		{"Encrypt", `{` + key + `,"Plaintext":"@","DryRun":"#"}`},
		{"Encrypt", `{` + key + `,"Plaintext":"@","Plaintext":"@"}`},
		{"Encrypt", `{` + key + `,"Plaintext":"` + strings.Repeat("@", 1) + strings.Repeat("A", 8000) + `"}`},
		{"Encrypt", `{"KeyId":"11111111-2222-3333-4444-555555555555","Plaintext":"@"}`},
		{"Encrypt", `{` + key + `,"Plaintext":"@"`},
		{"Encrypt", `{` + key + `,"Plaintext":@}`},
		{"Encrypt", `#`},
		{"Encrypt", `@`},
		{"Decrypt", `{"CiphertextBlob":"@"}`},
		{"Decrypt", `{` + key + `,"CiphertextBlob":"@"}`},
		{"Decrypt", `{` + key + `,"CiphertextBlob":"#"}`},
		{"Decrypt", `{` + key + `,"CiphertextBlob":"@","Recipient":{"AttestationDocument":"@","KeyEncryptionAlgorithm":"#"}}`},
		{"ReEncrypt", `{"CiphertextBlob":"@","DestinationKeyId":"` + arn + `"}`},
		{"GenerateDataKey", `{` + key + `,"KeySpec":"AES_256","GrantTokens":["#"]}`},
		{"GenerateDataKey", `{` + key + `,"NumberOfBytes":"#"}`},
		{"Sign", `{` + key + `,"Message":"@","SigningAlgorithm":"ECDSA_SHA_256"}`},
		{"Verify", `{` + key + `,"Message":"@","Signature":"@","SigningAlgorithm":"ECDSA_SHA_256"}`},
		{"GenerateMac", `{` + key + `,"Message":"@","MacAlgorithm":"HMAC_SHA_256"}`},
		{"VerifyMac", `{` + key + `,"Message":"@","Mac":"@","MacAlgorithm":"HMAC_SHA_256"}`},
		{"DeriveSharedSecret", `{` + key + `,"PublicKey":"@","KeyAgreementAlgorithm":"ECDH"}`},
		{"ImportKeyMaterial", `{` + key + `,"EncryptedKeyMaterial":"@","ImportToken":"@","ExpirationModel":"KEY_MATERIAL_DOES_NOT_EXPIRE"}`},
		{"RetireGrant", `{"GrantToken":"#"}`},
		{"CreateCustomKeyStore", `{"CustomKeyStoreName":"n","CloudHsmClusterId":"cluster-1234567abcd","KeyStorePassword":"#","TrustAnchorCertificate":"#"}`},
		{"CreateCustomKeyStore", `{"CustomKeyStoreName":"n","CustomKeyStoreType":"EXTERNAL_KEY_STORE","XksProxyAuthenticationCredential":{"AccessKeyId":"AAAAAAAAAAAAAAAAAAAA","RawSecretAccessKey":"#"}}`},
		{"UpdateCustomKeyStore", `{"CustomKeyStoreId":"cks-1234567890abcdef0","KeyStorePassword":"#"}`},
		{"CreateKey", `{"Policy":"#"}`},
		{"PutKeyPolicy", `{` + key + `,"Policy":"{\"Version\":\"#\"}"}`},
		{"Nothing", `{"Plaintext":"@"}`},
	}
}

// misuse sends every wrong request with some secrets, and credentials in wrong
// places.
func (c *keyCanary) misuse(t *testing.T, n *node, creds aws.Credentials) {
	arn := *c.createKey(t, sdk(n, creds, 1), kms.CreateKeyInput{})
	tokens, session := "", ""
	for name, s := range c.secrets {
		if strings.HasPrefix(name, "grant token") {
			tokens = s
		} else if strings.HasPrefix(name, "session token") {
			session = s
		}
	}
	for i, w := range wrongKeys(arn) {
		for _, secret := range []string{keyTexts[0], keyTexts[2], tokens, session} {
			body := strings.NewReplacer("#", secret, "@", base64.StdEncoding.EncodeToString([]byte(secret))).Replace(w.body)
			r, err := signed(t.Context(), n.url, "kms", "TrentService."+w.target, body, creds)
			if err != nil {
				t.Fatal(err)
			}
			c.refuse(t, fmt.Sprintf("wrong request %d (%s)", i+1, w.target), r, secret == tokens || secret == session) // as a grant token, or as base64, they are in order
		}
	}
	sts := func(body string) *http.Request {
		r, err := signed(t.Context(), n.url, "sts", "", body, creds)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	const anID = "AKIA1111111111111111"
	c.refuse(t, "STS with an unknown action", sts("Action="+keyTexts[1]+"&Version=2011-06-15"), false)
	c.refuse(t, "STS with a code that is a secret", sts("Action=GetSessionToken&Version=2011-06-15&SerialNumber=arn:aws:iam::"+keyAccount+":mfa/x&TokenCode="+keyTexts[1]), false)
	for what, wrong := range map[string]aws.Credentials{
		"secret as access key id":          {AccessKeyID: creds.SecretAccessKey, SecretAccessKey: creds.SecretAccessKey},
		"plain secret as access key id":    {AccessKeyID: plainText, SecretAccessKey: plainText},
		"session token of another":         {AccessKeyID: creds.AccessKeyID, SecretAccessKey: creds.SecretAccessKey, SessionToken: session},
		"session token with an unknown id": {AccessKeyID: anID, SecretAccessKey: keyTexts[0], SessionToken: session},
	} {
		r, err := signed(t.Context(), n.url, "kms", "TrentService.ListKeys", "{}", wrong)
		if err != nil {
			t.Fatal(err)
		}
		c.refuse(t, what, r, false)
	}
	for what, change := range map[string]func(*http.Request){
		"secret as signature": func(r *http.Request) {
			r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+anID+"/20260101/"+keyRegion+"/kms/aws4_request, SignedHeaders=host, Signature="+creds.SecretAccessKey)
		},
		"secret as authorization":    func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+creds.SecretAccessKey) },
		"session token in the query": func(r *http.Request) { r.URL.RawQuery = "X-Amz-Security-Token=" + session },
		"secret in the target":       func(r *http.Request) { r.Header.Set("X-Amz-Target", "TrentService."+creds.SecretAccessKey) },
		"secret in the path":         func(r *http.Request) { r.URL.Path = "/" + keyTexts[1] },
		"secret in the method":       func(r *http.Request) { r.Method = "X" + plainText },
		"secret in the content type": func(r *http.Request) { r.Header.Set("Content-Type", "application/"+keyTexts[1]) },
		"secret in the credential scope": func(r *http.Request) {
			r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+anID+"/20260101/"+plainText+"/kms/aws4_request, SignedHeaders=host;x-amz-date, Signature="+strings.Repeat("0", 64))
		},
		"secret as date": func(r *http.Request) { r.Header.Set("X-Amz-Date", plainText) },
	} {
		r, err := signed(t.Context(), n.url, "kms", "TrentService.ListKeys", "{}", creds)
		if err != nil {
			t.Fatal(err)
		}
		change(r)
		c.refuse(t, what, r, false)
	}
}

// plainText is a text that could be the name of anything.
const plainText = "Zq7wXy9vUt5sRr3pOn1mLk8jHg6fDe4cBa2zYxWv"

// refuse sends a request that must be refused without repeating its secrets.
func (c *keyCanary) refuse(t *testing.T, what string, r *http.Request, mayWork bool) {
	t.Helper()
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Errorf("%s: no answer", what)
		return
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode < 400 && !mayWork {
		t.Errorf("%s: status %d, it should be refused; %v", what, res.StatusCode, err)
	}
	if res.StatusCode >= 500 {
		t.Errorf("%s: status %d", what, res.StatusCode)
	}
	c.refused++
	if res.StatusCode < 400 {
		return
	}
	header := &bytes.Buffer{}
	res.Header.Write(header)
	c.search(t, "answer to "+what, body)
	c.search(t, "headers of the answer to "+what, header.Bytes())
}
