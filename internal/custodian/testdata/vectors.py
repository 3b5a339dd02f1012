#!/usr/bin/env python3
"""Writes shares.json beside itself.

A second implementation of docs/spec/custodian-shares.md on the "cryptography"
package, sharing no code with the product. Inputs are fixed, so a run changes
nothing unless the specification changed.
"""
import base64, hashlib, hmac, json, os, struct, uuid, zlib
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
# Logarithms of GF(2^8) to the base 3, where the product has no tables.
EXP = [1]
while len(EXP) < 255:
    x = EXP[-1] ^ EXP[-1] << 1
    EXP.append(x ^ 0x11B if x & 0x100 else x)
LOG = {v: i for i, v in enumerate(EXP)}


def mul(a, b):
    return EXP[(LOG[a] + LOG[b]) % 255] if a and b else 0


def lp(b):
    return struct.pack(">I", len(b)) + b


def context(label, *fields):
    return lp(label.encode()) + b"".join(lp(f) for f in fields)


def bytes_of(what, n):
    return hashlib.shake_256(("cardea vector " + what).encode()).digest(n)


def polymod(values):
    chk = 1
    for v in values:
        top = chk >> 25
        chk = (chk & 0x1FFFFFF) << 5 ^ v
        for i, g in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            chk ^= g if top >> i & 1 else 0
    return chk


def to5(b):
    bits = "".join(f"{x:08b}" for x in b)
    bits += "0" * (-len(bits) % 5)
    return [int(bits[i:i + 5], 2) for i in range(0, len(bits), 5)]


def share_text(tenant, generation, index, k, n, value):
    tag = hashlib.sha256(context("cardea share tenant v1", tenant.encode())).digest()[:5]
    hrp = f"cardea-share-1-{''.join(CHARSET[s] for s in to5(tag))}-{generation}-{index}"
    data = [k - 1, n - 1] + to5(value)
    expanded = [ord(c) >> 5 for c in hrp] + [0] + [ord(c) & 31 for c in hrp]
    mod = polymod(expanded + data + [0] * 6) ^ 0x2BC830A3
    text = "".join(CHARSET[s] for s in data + [mod >> 5 * (5 - i) & 31 for i in range(6)])
    return hrp + "".join("-" + text[i:i + 5] for i in range(0, 60, 5))


def seal(name, tenant, form, n, k, generation):
    key, master = bytes_of(name + " key", 32), bytes_of(name + " master", 32)
    salt, check_salt, nonce = bytes_of(name + " salt", 32), bytes_of(name + " check salt", 16), bytes_of(name + " nonce", 12)
    master_id = uuid.UUID(bytes=bytes_of(name + " id", 16), version=4)
    if form == "shares":
        coefficients = [key] + [bytes_of(f"{name} coefficient {i}", 32) for i in range(1, k)]
        parts = []
        for x in range(1, n + 1):
            y = []
            for j in range(32):
                acc, power = 0, 1
                for c in coefficients:
                    acc ^= mul(c[j], power)
                    power = mul(power, x)
                y.append(acc)
            parts.append(bytes(y))
        texts = [share_text(tenant, generation, i + 1, k, n, p) for i, p in enumerate(parts)]
    else:
        parts = [key[:16], key[16:]]
        texts = [p.hex() for p in parts]
    gen = struct.pack(">I", generation)
    header = bytes([1, 1 if form == "shares" else 2, n, k]) + gen + master_id.bytes
    header += bytes([len(tenant.encode())]) + tenant.encode() + check_salt
    for i, p in enumerate(parts):
        header += hmac.new(p, context("cardea share check v1", tenant.encode(), gen, check_salt, bytes([i + 1])), "sha256").digest()[:16]
    ctx = context("cardea custodian seal v1", header)
    okm = HKDF(SHA256(), 64, salt, ctx).derive(key)
    box = salt + okm[32:] + nonce + AESGCM(okm[:32]).encrypt(nonce, master, ctx)
    return dict(name=name, tenant=tenant, form=form, shares=n, threshold=k, generation=generation, master_id=str(master_id),
                master=master.hex(), parts=texts, seal=(header + box).hex())


def hyperswitch():
    key, master, nonce = bytes_of("peer key", 32), bytes_of("peer master", 32), bytes_of("peer nonce", 12)
    return dict(key1=key.hex()[:32], key2=key.hex()[32:], master=master.hex(),
                sealed=(nonce + AESGCM(key).encrypt(nonce, master, None)).hex())


def token():
    r = bytes_of("token", 32)
    text = "cardea-custodian-" + base64.urlsafe_b64encode(r + struct.pack(">I", zlib.crc32(b"cardea-custodian-" + r))).decode()
    return dict(token=text, hash=hashlib.sha256(text.encode()).hexdigest())


out = dict(
    seals=[seal("2 of 3", "acme", "shares", 3, 2, 1), seal("5 of 16", "tenant-ü", "shares", 16, 5, 2147483647),
           seal("halves", "acme", "halves", 2, 2, 7)],
    hyperswitch=hyperswitch(), token=token())
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "shares.json"), "w", encoding="utf-8") as f:
    json.dump(out, f, indent=1, ensure_ascii=False)
    f.write("\n")
