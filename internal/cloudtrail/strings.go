package cloudtrail

import (
	"bytes"
	"hash/maphash"
	"unicode/utf8"
)

// Bounds of what is kept of texts.
const (
	maxText     = 4096 // bytes of a text in an Event; what is longer is cut
	maxInterned = 512
	stringSlots = 8192
	pairSlots   = 2048
	keySlots    = 1024
)

// texts keeps the strings that repeat from record to record: names, principals,
// addresses, agents. A slot holds the last text with its hash, so that memory is
// bounded whatever comes: hostile texts only push others out. The zero value keeps
// nothing.
type texts struct {
	seed  maphash.Seed
	slots []string
	keys  [][]string
	pairs []pairs
}

// pairs is an encryption context by its JSON. It is kept from the second time on:
// contexts that name a record do not come again.
type pairs struct {
	hash uint64
	json string
	of   map[string]string
}

func newTexts() *texts {
	return &texts{
		seed: maphash.MakeSeed(), slots: make([]string, stringSlots),
		keys: make([][]string, keySlots), pairs: make([]pairs, pairSlots),
	}
}

// of gives b as a string, at most maxText of it.
func (t *texts) of(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	if len(b) > maxInterned || t.slots == nil {
		return cut(b)
	}
	slot := &t.slots[maphash.Bytes(t.seed, b)%stringSlots]
	if *slot != string(b) {
		*slot = string(b)
	}
	return *slot
}

// cut is b as a string, cut between characters if it is too long.
func cut(b []byte) string {
	if len(b) <= maxText {
		return string(b)
	}
	end := maxText
	for end > maxText-utf8.UTFMax && !utf8.RuneStart(b[end]) {
		end--
	}
	return string(b[:end])
}

// one gives the list of one key.
func (t *texts) one(key string) []string {
	if t.keys == nil {
		return []string{key}
	}
	slot := &t.keys[maphash.String(t.seed, key)%keySlots]
	if len(*slot) != 1 || (*slot)[0] != key {
		*slot = []string{key}
	}
	return *slot
}

// context gives the texts of an object of texts. Values of other kinds, and what
// is over the 64 pairs that are kept, are left out: KMS has neither.
func (t *texts) context(s *scanner, json []byte) map[string]string {
	if len(json) < 2 || json[0] != '{' {
		return nil
	}
	if t.pairs == nil {
		return t.pairsOf(s, json)
	}
	hash := maphash.Bytes(t.seed, json)
	slot := &t.pairs[hash%pairSlots]
	if slot.hash == hash && slot.of != nil && slot.json == string(json) {
		return slot.of
	}
	m := t.pairsOf(s, json)
	again := slot.hash == hash
	*slot = pairs{hash: hash}
	if again && len(json) <= 4*maxInterned {
		slot.json, slot.of = string(json), m
	}
	return m
}

func (t *texts) pairsOf(s *scanner, json []byte) map[string]string {
	const most = 64
	inner := scanner{b: json, scratch: s.scratch}
	m := make(map[string]string, min(most, bytes.Count(json, []byte(`":`))))
	if inner.object() {
		for first := true; ; first = false {
			name, more := inner.member(first)
			if !more {
				break
			}
			if inner.peek() != '"' || len(m) >= most {
				inner.skip()
				continue
			}
			key := t.of(name)
			m[key] = t.of(inner.text())
		}
	}
	s.scratch = inner.scratch
	return m
}
