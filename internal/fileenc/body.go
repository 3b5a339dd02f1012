package fileenc

import (
	"crypto/cipher"
	"encoding/binary"
	"math"
)

// What bodies' associated data names the kind of content by.
const (
	kindNonFramed  = "AWSKMSEncryptionClient Single Block"
	kindFrame      = "AWSKMSEncryptionClient Frame"
	kindFinalFrame = "AWSKMSEncryptionClient Final Frame"
)

const (
	lastFrame = math.MaxUint32 // in place of a number: what follows is the final frame

	frameHead = 4 + ivSize        // number, nonce
	finalHead = 4 + frameHead + 4 // mark, number, nonce, length
	finalMore = finalHead - frameHead
	frameMore = frameHead + tagSize // of a frame besides its content
)

// frames is what encrypts or decrypts frames. It is for one goroutine.
type frames struct {
	aead  cipher.AEAD
	id    []byte
	aad   []byte
	nonce [ivSize]byte
}

func (f *frames) associated(kind string, seq uint32, length uint64) []byte {
	b := append(append(f.aad[:0], f.id...), kind...)
	b = binary.BigEndian.AppendUint32(b, seq)
	f.aad = binary.BigEndian.AppendUint64(b, length)
	return f.aad
}

func (f *frames) iv(seq uint32) []byte {
	binary.BigEndian.PutUint32(f.nonce[ivSize-4:], seq)
	return f.nonce[:]
}

// seal encrypts the content of a frame where it stands in b, behind the frame's
// head, and fills the head in.
func (f *frames) seal(b []byte, seq uint32, length int) {
	iv := f.iv(seq)
	binary.BigEndian.PutUint32(b, seq)
	copy(b[4:], iv)
	f.aead.Seal(b[frameHead:frameHead], iv, b[frameHead:frameHead+length], f.associated(kindFrame, seq, uint64(length)))
}

// sealFinal does so with the final frame, whose content stands behind a head of that
// size.
func (f *frames) sealFinal(b []byte, seq uint32, length int) {
	iv := f.iv(seq)
	binary.BigEndian.PutUint32(b, lastFrame)
	binary.BigEndian.PutUint32(b[4:], seq)
	copy(b[8:], iv)
	binary.BigEndian.PutUint32(b[8+ivSize:], uint32(length))
	f.aead.Seal(b[finalHead:finalHead], iv, b[finalHead:finalHead+length], f.associated(kindFinalFrame, seq, uint64(length)))
}

// open decrypts a frame's content where it stands.
func (f *frames) open(iv, sealed []byte, kind string, seq uint32) ([]byte, error) {
	plain, err := f.aead.Open(sealed[:0], iv, sealed, f.associated(kind, seq, uint64(len(sealed)-tagSize)))
	if err != nil {
		return nil, forged("frame %d was changed", seq)
	}
	return plain, nil
}
