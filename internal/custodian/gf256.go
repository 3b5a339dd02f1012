package custodian

// Arithmetic of GF(2^8) with the polynomial of AES (FIPS 197, section 4). No
// table and no branch depends on an operand, so that neither time nor cache shows
// a share. Addition is ^.

// mul is a·b.
func mul(a, b byte) byte {
	var p byte
	for range 8 {
		p ^= a & -(b & 1)
		b >>= 1
		a = a<<1 ^ 0x1b&-(a>>7)
	}
	return p
}

// inv is 1/a, and 0 for 0: a^254 by squaring.
func inv(a byte) byte {
	r, s := byte(1), a
	for range 7 { // 254 = 2 + 4 + … + 128
		s = mul(s, s)
		r = mul(r, s)
	}
	return r
}
