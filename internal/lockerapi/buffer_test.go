package lockerapi

import (
	"bytes"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"cardea/internal/secret"
)

// TestBuffersAreWiped: on release, and what a buffer outgrows.
func TestBuffersAreWiped(t *testing.T) {
	t.Parallel()
	b := &buffer{b: make([]byte, 0, 4)}
	b.text("4111")
	small := b.b
	b.bytes([]byte("111111111111"))
	if !bytes.Equal(small, make([]byte, 4)) {
		t.Error("what was outgrown is not wiped")
	}
	if string(b.b) != "4111111111111111" {
		t.Error("growing lost something")
	}
	large := b.b
	b.release()
	if !bytes.Equal(large, make([]byte, len(large))) {
		t.Error("release does not wipe")
	}
	(*buffer)(nil).release()
}

// TestNothingOutgrowsABufferUnseen: every append makes room by grow first, so
// that append itself never moves the bytes and leaves a copy behind.
func TestNothingOutgrowsABufferUnseen(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b := &buffer{b: make([]byte, 0, rapid.IntRange(0, 8).Draw(t, "capacity"))}
		text := rapid.String().Draw(t, "text")
		whole := b.b[:cap(b.b)]
		if err := quote(b, text); err != nil {
			t.Fatal(err)
		}
		if cap(b.b) != cap(whole) && !bytes.Equal(whole, make([]byte, len(whole))) {
			t.Fatal("a copy was left behind")
		}
	})
}

// TestDecoderLeavesNothingToTheNextRequest: a pooled decoder keeps no body.
func TestDecoderLeavesNothingToTheNextRequest(t *testing.T) {
	t.Parallel()
	var first nameCard
	if f := decodeBody([]byte(`{"merchant_id":"m","merchant_customer_id":"c","card_reference":"r"}`), &first); f != nil {
		t.Fatal(f)
	}
	for _, text := range []string{"", "{", `{"merchant_id":"m"`, "[]"} {
		var next nameCard
		if f := decodeBody([]byte(text), &next); f == nil {
			t.Errorf("%q was taken", text)
		}
		var again nameCard
		if f := decodeBody([]byte(`{"merchant_id":"m","merchant_customer_id":"c","card_reference":"r"}`), &again); f != nil || again != first {
			t.Errorf("after %q: %v", text, f)
		}
	}
}

func TestRequestsAreDestroyedWhole(t *testing.T) {
	t.Parallel()
	var r addCard
	f := decodeBody([]byte(`{"merchant_id":"m","merchant_customer_id":"c","enc_card_data":"d","card":{"card_number":"4111111111111111",
		"name_on_card":"n","card_exp_month":"1","card_exp_year":"2","card_brand":"b","card_isin":"i","nick_name":"\u0041"}}`), &r)
	if f != nil {
		t.Fatal(f)
	}
	in := r.card.in
	var exposed [][]byte
	for _, s := range []secret.Bytes{in.Number, in.Name, in.ExpMonth, in.ExpYear, in.Brand, in.ISIN, in.Nick, r.data} {
		if s.Len() == 0 {
			t.Fatal("a field is missing")
		}
		exposed = append(exposed, s.Expose())
	}
	r.destroy()
	for i, b := range exposed {
		if strings.Trim(string(b), "\x00") != "" {
			t.Errorf("field %d is not wiped", i)
		}
	}
}
