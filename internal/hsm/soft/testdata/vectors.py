#!/usr/bin/env python3
"""Writes material.json and secret.json beside itself.

A second implementation of docs/spec/key-material.md on the "cryptography" package,
sharing no code with the product. Inputs are fixed, so a run changes nothing unless
the specification changed.
"""
import hashlib, hmac, json, os, struct
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

HERE = os.path.dirname(os.path.abspath(__file__))


def lp(b):
    return struct.pack(">I", len(b)) + b


def context(label, *fields):
    return lp(label.encode()) + b"".join(lp(f) for f in fields)


def bytes_of(what, n):
    """n bytes that look random and say where they come from."""
    return hashlib.shake_256(("cardea vector " + what).encode()).digest(n)


def sealed(name, kek_label, ctx, plaintext):
    root, salt, nonce = (bytes_of(name + " " + x, n) for x, n in (("root", 32), ("salt", 32), ("nonce", 12)))
    kek = hmac.new(root, context(kek_label), "sha256").digest()
    okm = HKDF(SHA256(), 64, salt, ctx).derive(kek)
    blob = b"\x01" + salt + okm[32:] + nonce + AESGCM(okm[:32]).encrypt(nonce, plaintext, ctx)
    return dict(name=name, root=root.hex(), kek=kek.hex(), salt=salt.hex(), nonce=nonce.hex(),
                context=ctx.hex(), plaintext=plaintext.hex(), sealed=blob.hex())


def material(name, key_id, spec, plaintext):
    material_id = bytes_of(name + " material id", 32).hex()
    ctx = context("cardea key material v1", key_id.encode(), material_id.encode(), spec.encode())
    return dict(sealed(name, "cardea root key for key material v1", ctx, plaintext),
                key_id=key_id, material_id=material_id, spec=spec)


def secret(name, label, plaintext):
    ctx = context("cardea secret v1", label.encode())
    return dict(sealed(name, "cardea root key for secrets v1", ctx, plaintext), label=label)


# PKCS #8 of an Ed25519 seed (RFC 8410, section 7), which needs no library.
ED25519 = bytes.fromhex("302e020100300506032b657004220420") + bytes_of("ed25519 seed", 32)

FILES = {
    "material.json": [
        material("symmetric", "1234abcd-12ab-34cd-56ef-1234567890ab", "SYMMETRIC_DEFAULT", bytes_of("symmetric key", 32)),
        material("multi-region", "mrk-1234abcd12ab34cd56ef1234567890ab", "SYMMETRIC_DEFAULT", bytes_of("multi-region key", 32)),
        material("hmac", "0987dcba-09fe-87dc-65ba-ab0987654321", "HMAC_384", bytes_of("hmac key", 48)),
        material("ed25519", "0987dcba-09fe-87dc-65ba-ab0987654321", "ECC_NIST_EDWARDS25519", ED25519),
    ],
    "secret.json": [
        secret("access key", "access-key AKIAIOSFODNN7EXAMPLE", b"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
        secret("empty", "x", b""),
        secret("text", "Schlüssel", "geheim ✓".encode()),
    ],
}

for file, vectors in FILES.items():
    with open(os.path.join(HERE, file), "w") as f:
        json.dump(vectors, f, indent=1)
        f.write("\n")
