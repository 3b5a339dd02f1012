package ciphertext

import (
	"bytes"
	"crypto/fips140"
	"crypto/hmac"
	"encoding/json"
	"io/fs"
	"slices"
	"testing"

	"github.com/c2sp/wycheproof"
)

// wycheproofGroups reads one file of Project Wycheproof, which attacks the
// primitives with edge cases. The tests run them through the functions that the
// formats are made with, not through the standard library beside them.
func wycheproofGroups[G any](t *testing.T, file string) []G {
	t.Helper()
	data, err := fs.ReadFile(wycheproof.TestVectors, file)
	if err != nil {
		t.Fatal(err)
	}
	var f struct {
		TestGroups []G `json:"testGroups"`
	}
	if err := json.Unmarshal(data, &f); err != nil {
		t.Fatal(err)
	}
	return f.TestGroups
}

func TestWycheproofAESGCM(t *testing.T) {
	t.Parallel()
	type group struct {
		KeySize, IVSize, TagSize int
		Tests                    []struct {
			TCID                       int `json:"tcId"`
			Comment                    string
			Key, IV, AAD, Msg, CT, Tag hexBytes
			Result                     string
		}
	}
	ran := 0
	for _, g := range wycheproofGroups[group](t, "aes_gcm_test.json") {
		if g.KeySize != 256 || g.IVSize != 96 || g.TagSize != 128 {
			continue
		}
		for _, v := range g.Tests {
			ran++
			got, err := openAEAD(v.Key, slices.Concat(v.IV, v.CT, v.Tag), v.AAD)
			if valid := v.Result == "valid"; (err == nil) != valid {
				t.Errorf("%d (%s): got %v, want valid %v", v.TCID, v.Comment, err, valid)
			} else if valid && !bytes.Equal(got.Expose(), v.Msg) {
				t.Errorf("%d (%s): another plaintext", v.TCID, v.Comment)
			}
		}
	}
	if ran < 60 {
		t.Errorf("ran %d vectors", ran)
	}
}

func TestWycheproofHKDF(t *testing.T) {
	t.Parallel()
	type group struct {
		Tests []struct {
			TCID                 int `json:"tcId"`
			Comment              string
			IKM, Salt, Info, OKM hexBytes
			Size                 int
			Result               string
		}
	}
	ran := 0
	for _, g := range wycheproofGroups[group](t, "hkdf_sha256_test.json") {
		for _, v := range g.Tests {
			if fips140.Enforced() && len(v.IKM) < 14 {
				continue
			}
			ran++
			got, err := hkdfSHA256(v.IKM, v.Salt, v.Info, v.Size)
			if valid := v.Result == "valid"; (err == nil) != valid {
				t.Errorf("%d (%s): got %v, want valid %v", v.TCID, v.Comment, err, valid)
			} else if valid && !bytes.Equal(got, v.OKM) {
				t.Errorf("%d (%s): another key", v.TCID, v.Comment)
			}
		}
	}
	if ran < 80 {
		t.Errorf("ran %d vectors", ran)
	}
}

func TestWycheproofHMAC(t *testing.T) {
	t.Parallel()
	type group struct {
		TagSize int
		Tests   []struct {
			TCID          int `json:"tcId"`
			Comment       string
			Key, Msg, Tag hexBytes
			Result        string
		}
	}
	ran := 0
	for _, g := range wycheproofGroups[group](t, "hmac_sha256_test.json") {
		for _, v := range g.Tests {
			if fips140.Enforced() && len(v.Key) < 14 {
				continue
			}
			ran++
			got := hmacSHA256(v.Key, v.Msg)
			if valid := v.Result == "valid"; hmac.Equal(got[:g.TagSize/8], v.Tag) != valid {
				t.Errorf("%d (%s): want valid %v", v.TCID, v.Comment, valid)
			}
		}
	}
	if ran < 170 {
		t.Errorf("ran %d vectors", ran)
	}
}
