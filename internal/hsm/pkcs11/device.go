//go:build pkcs11 && cgo

package pkcs11

/*
#cgo linux LDFLAGS: -ldl
#include <dlfcn.h>
#include <stddef.h>

typedef unsigned long ulong_t;
typedef unsigned char byte_t;

// The functions that are called here, at their places in CK_FUNCTION_LIST
// (PKCS #11 2.40, section 5). The others are called by package miekg/pkcs11.
typedef struct {
	byte_t major, minor;
	void *before_login[18];
	ulong_t (*login)(ulong_t session, ulong_t user, byte_t *pin, ulong_t n);
	void *before_encrypt[10];
	ulong_t (*encrypt_init)(ulong_t session, void *mechanism, ulong_t key);
	ulong_t (*encrypt)(ulong_t session, byte_t *in, ulong_t nin, byte_t *out, ulong_t *nout);
	void *before_decrypt[2];
	ulong_t (*decrypt_init)(ulong_t session, void *mechanism, ulong_t key);
	ulong_t (*decrypt)(ulong_t session, byte_t *in, ulong_t nin, byte_t *out, ulong_t *nout);
	void *before_random[29];
	ulong_t (*random)(ulong_t session, byte_t *out, ulong_t n);
} functions;

typedef struct { byte_t *iv; ulong_t iv_len, iv_bits; byte_t *aad; ulong_t aad_len, tag_bits; } gcm_params;
typedef struct { ulong_t type; void *params; ulong_t n; } mechanism;

// load finds the functions of a library that is loaded already.
static functions *load(const char *path) {
	void *module = dlopen(path, RTLD_LAZY);
	functions *f = NULL;
	if (module == NULL)
		return NULL;
	ulong_t (*get)(functions **) = (ulong_t (*)(functions **))dlsym(module, "C_GetFunctionList");
	if (get == NULL || get(&f) != 0)
		return NULL;
	return f;
}

static ulong_t login(functions *f, ulong_t session, byte_t *pin, ulong_t n) {
	return f->login(session, 1, pin, n); // CKU_USER
}

static ulong_t generate(functions *f, ulong_t session, byte_t *out, ulong_t n) {
	return f->random(session, out, n);
}

// gcm encrypts or decrypts in one go. A device that makes its own nonces writes them to iv.
static ulong_t gcm(functions *f, int decrypt, ulong_t session, ulong_t key, byte_t *iv, ulong_t niv, byte_t *aad, ulong_t naad,
	byte_t *in, ulong_t nin, byte_t *out, ulong_t *nout, int *begun) {
	gcm_params p = {iv, niv, 8 * niv, aad, naad, 128};
	mechanism m = {0x1087, &p, sizeof p}; // CKM_AES_GCM
	ulong_t rv = decrypt ? f->decrypt_init(session, &m, key) : f->encrypt_init(session, &m, key);
	if (rv != 0)
		return rv;
	*begun = 1;
	return decrypt ? f->decrypt(session, in, nin, out, nout) : f->encrypt(session, in, nin, out, nout);
}
*/
import "C"

import (
	"unsafe"

	p11 "github.com/miekg/pkcs11"

	"cardea/internal/secret"
)

// Sizes of AES-256-GCM, in bytes.
const (
	keySize   = 32
	nonceSize = 12
	tagSize   = 16
)

// device are a library's functions. Those that take or give secrets are called
// here, on memory of Go's that is wiped afterwards: miekg/pkcs11 takes a PIN as a
// string, copies what it gets through C's heap without wiping it, and of a ciphertext
// that does not open keeps that copy for ever.
type device struct {
	*p11.Ctx
	f *C.functions
}

// loadDevice loads a library, for good: unloading one is not safe.
func loadDevice(path string) (device, bool) {
	ctx := p11.New(path)
	if ctx == nil {
		return device{}, false
	}
	name := append([]byte(path), 0)
	f := C.load((*C.char)(unsafe.Pointer(&name[0])))
	return device{ctx, f}, f != nil
}

func result(rv C.ulong_t) error {
	if rv == p11.CKR_OK {
		return nil
	}
	return p11.Error(rv)
}

func pointer(b []byte) *C.byte_t { return (*C.byte_t)(unsafe.Pointer(unsafe.SliceData(b))) }

// login logs in as the token's user.
func (d device) login(session p11.SessionHandle, pin secret.Bytes) error {
	b := pin.Expose()
	return result(C.login(d.f, C.ulong_t(session), pointer(b), C.ulong_t(len(b))))
}

// random fills b by the device's generator.
func (d device) random(session p11.SessionHandle, b []byte) error {
	return result(C.generate(d.f, C.ulong_t(session), pointer(b), C.ulong_t(len(b))))
}

// encrypt appends nonce, ciphertext and tag to nothing. nonce is random; a device may
// have its own instead.
func (d device) encrypt(session p11.SessionHandle, key p11.ObjectHandle, nonce [nonceSize]byte, aad, plaintext []byte) ([]byte, error) {
	sealed := make([]byte, nonceSize+len(plaintext)+tagSize)
	copy(sealed, nonce[:])
	n, _, err := d.gcm(false, session, key, sealed[:nonceSize], aad, plaintext, sealed[nonceSize:])
	if err != nil {
		return nil, err
	}
	return sealed[:nonceSize+n], nil
}

// decrypt is the inverse of encrypt; sealed has at least nonce and tag. begun says
// that the device took the key, so that an error can be the ciphertext's.
func (d device) decrypt(session p11.SessionHandle, key p11.ObjectHandle, aad, sealed []byte) (plaintext secret.Bytes, begun bool, err error) {
	nonce := [nonceSize]byte(sealed)
	out := make([]byte, len(sealed)) // more than the plaintext: some devices want it so
	n, begun, err := d.gcm(true, session, key, nonce[:], aad, sealed[nonceSize:], out)
	if err != nil {
		secret.Wipe(out)
		return secret.Bytes{}, begun, err
	}
	secret.Wipe(out[n:])
	return secret.New(out[:n]), true, nil
}

func (d device) gcm(decrypt bool, session p11.SessionHandle, key p11.ObjectHandle, nonce, aad, in, out []byte) (n int, begun bool, err error) {
	if len(in) == 0 {
		in = make([]byte, 0, 1) // a pointer to somewhere
	}
	var open, started C.int
	if decrypt {
		open = 1
	}
	size := C.ulong_t(len(out))
	rv := C.gcm(d.f, open, C.ulong_t(session), C.ulong_t(key), pointer(nonce), C.ulong_t(len(nonce)), pointer(aad), C.ulong_t(len(aad)),
		pointer(in), C.ulong_t(len(in)), pointer(out), &size, &started)
	return int(size), started != 0, result(rv)
}
