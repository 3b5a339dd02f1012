package fileenc

import (
	"context"
	"io"

	"cardea/internal/secret"
)

// OpenWith decrypts a message by its data key, whoever encrypted that.
func OpenWith(ctx context.Context, w io.Writer, r io.Reader, dataKey secret.Bytes, o DecryptOptions) error {
	o.dataKey = dataKey
	_, err := Decrypt(ctx, nil, w, r, o)
	return err
}

// Reencode is the header as it would be written.
func (h *Header) Reencode() []byte { return h.append(nil) }

// Raw is the header as it was read.
func (h *Header) Raw() []byte { return h.raw }

// OnePiece is a message whose body is one piece, which we do not write.
func OnePiece(dataKey secret.Bytes, plain []byte) []byte {
	h := &Header{Version: 2, Suite: Committed, MessageID: make([]byte, 32), Keys: []EncryptedKey{{providerKMS, "k", []byte("b")}}}
	x, _ := suiteOf(h.Suite)
	aead, commitment, err := x.derive(dataKey, h.MessageID)
	if err != nil {
		panic(err)
	}
	h.Commitment = commitment
	b := h.append(nil)
	b = aead.Seal(b, make([]byte, ivSize), nil, b)
	f := frames{aead: aead, id: h.MessageID}
	b = append(b, f.iv(1)...)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, byte(len(plain)))
	return aead.Seal(b, f.iv(1), plain, f.associated(kindNonFramed, 1, uint64(len(plain))))
}
