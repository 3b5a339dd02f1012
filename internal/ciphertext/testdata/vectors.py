#!/usr/bin/env python3
"""Writes record.json, wrapped.json, mac.json, kmsblob.json, kmswrapped.json, kmsrecord.json, hsmwrapped.json and
externalwrapped.json beside itself.

A second implementation of docs/spec/record.md, wrapped-key.md and kms-ciphertext.md on the
"cryptography" package, sharing no code with the product. Inputs are fixed, so
a run changes nothing unless the specification changed.
"""
import base64, hashlib, hmac, json, os, struct, uuid
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


def box(ikm, salt, nonce, ctx, plaintext):
    okm = HKDF(SHA256(), 64, salt, ctx).derive(ikm)
    return okm, salt + okm[32:] + nonce + AESGCM(okm[:32]).encrypt(nonce, plaintext, ctx)


def record(name, plaintext, entity, **b):
    key, salt, nonce = bytes_of(name + " key", 32), bytes_of(name + " salt", 32), bytes_of(name + " nonce", 12)
    secret = bytes_of(name + " entity", 32) if entity else b""
    kid, kver = uuid.UUID(b["key_id"]).bytes, struct.pack(">I", b["key_version"])
    ctx = context("cardea record v1", b"\x01", *(b[f].encode() for f in
                  ("tenant", "holder", "space", "customer", "reference", "kind")),
                  kid, kver, struct.pack(">q", b["created_at"]), struct.pack(">q", b["expires_at"]))
    okm, sealed = box(key + secret, salt, nonce, ctx, plaintext)
    return dict(name=name, binding=b, branch_key=key.hex(), entity_secret=secret.hex(), salt=salt.hex(), nonce=nonce.hex(),
                plaintext=plaintext.hex(), context=ctx.hex(), okm=okm.hex(), record=(b"\x01\x01" + kid + kver + sealed).hex())


def wrapped(name, key, **b):
    kek, salt, nonce = bytes_of(name + " kek", 32), bytes_of(name + " salt", 32), bytes_of(name + " nonce", 12)
    kid, kver, kekid = uuid.UUID(b["key_id"]).bytes, struct.pack(">I", b["version"]), uuid.UUID(b["kek"]).bytes
    ctx = context("cardea wrapped key v1", b"\x01", *(b[f].encode() for f in ("tenant", "holder", "purpose")), kid, kver, kekid)
    okm, sealed = box(kek, salt, nonce, ctx, key)
    return dict(name=name, binding=b, wrapping_key=kek.hex(), salt=salt.hex(), nonce=nonce.hex(), key=key.hex(),
                context=ctx.hex(), okm=okm.hex(), wrapped=(b"\x01\x01" + kid + kver + kekid + sealed).hex())


def mac(name, label, *parts):
    key = bytes_of(name + " key", 32)
    return dict(name=name, key=key.hex(), label=label, parts=[p.hex() for p in parts],
                mac=hmac.new(key, context(label, *parts), "sha256").hexdigest())


def kms_blob(name, plaintext, account, key_id, pairs):
    material, salt, nonce = bytes_of(name + " material", 32), bytes_of(name + " salt", 32), bytes_of(name + " nonce", 12)
    material_id = bytes_of(name + " material id", 32)
    kind, digits = (1, key_id[4:]) if key_id.startswith("mrk-") else (0, key_id.replace("-", ""))
    header = bytes([1, kind]) + int(account).to_bytes(5, "big") + bytes.fromhex(digits) + material_id
    fields = [f.encode() for n in sorted(pairs, key=str.encode) for f in (n, pairs[n])]
    ctx = context("cardea kms ciphertext v1", header, *fields)
    _, sealed = box(material, salt, nonce, ctx, plaintext)
    return dict(name=name, account=account, key_id=key_id, material_id=material_id.hex(), encryption_context=pairs, material=material.hex(),
                salt=salt.hex(), nonce=nonce.hex(), plaintext=plaintext.hex(), header=header.hex(), context=ctx.hex(), sealed=sealed.hex(),
                blob=(header + sealed).hex())


def kms_wrapped(name, mode, key_id, version, kms_key, blob):
    b = b"\x01" + bytes([mode]) + uuid.UUID(key_id).bytes + struct.pack(">I", version) + bytes(16) + lp(kms_key.encode()) + blob
    return dict(name=name, mode=mode, key_id=key_id, version=version, kms_key=kms_key, blob=blob.hex(), wrapped=b.hex())


def elsewhere(label, b, under):
    return context(label, *(b[f].encode() for f in ("tenant", "holder", "purpose")), uuid.UUID(b["key_id"]).bytes,
                   struct.pack(">I", b["version"]), under.encode())


def hsm_wrapped(name, uri, **b):
    hsm_key, nonce, key = bytes_of(name + " hsm key", 32), bytes_of(name + " nonce", 12), bytes_of(name + " key", 32)
    ctx = elsewhere("cardea hsm wrapped key v1", b, uri)
    blob = nonce + AESGCM(hsm_key).encrypt(nonce, key, ctx)
    return dict(name=name, binding=b, uri=uri, hsm_key=hsm_key.hex(), key=key.hex(), aad=ctx.hex(),
                wrapped=kms_wrapped(name, 3, b["key_id"], b["version"], uri, blob)["wrapped"])


def external_wrapped(name, **b):
    """The service is a stand-in: what it makes of the plaintext is its own affair, so its text is base64 of the plaintext."""
    alphabet = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    digest = hashlib.sha256(context("cardea external key v1", b["tenant"].encode())).digest()
    identifier, key = "".join(alphabet[x % 62] for x in digest[:20]), bytes_of(name + " key", 32)
    plaintext = hashlib.sha256(elsewhere("cardea external wrapped key v1", b, identifier)).digest() + key
    text = b"v1:" + base64.b64encode(plaintext)
    return dict(name=name, binding=b, identifier=identifier, key=key.hex(), plaintext=plaintext.hex(), text=text.decode(),
                wrapped=kms_wrapped(name, 4, b["key_id"], b["version"], identifier, text)["wrapped"])


def kms_record(name, kms_key, blob, entity, **b):
    kid, kver = uuid.UUID(b["key_id"]).bytes, struct.pack(">I", b["key_version"])
    secret = bytes_of(name + " entity", 32) if entity else b""
    ctx = context("cardea kms record v1", b"\x02", *(b[f].encode() for f in
                  ("tenant", "holder", "space", "customer", "reference", "kind")),
                  kid, kver, struct.pack(">q", b["created_at"]), struct.pack(">q", b["expires_at"]), secret)
    return dict(name=name, binding=b, entity_secret=secret.hex(), digest=hashlib.sha256(ctx).hexdigest(), kms_key=kms_key, blob=blob.hex(),
                record=(b"\x01\x02" + kid + kver + lp(kms_key.encode()) + blob).hex())


NIL = str(uuid.UUID(int=0))
K1, K2 = "0198f0a2-7c1e-7abc-8def-0123456789ab", "ffffffff-ffff-4fff-bfff-ffffffffffff"
RECORDS = [
    record("card", b'{"card_number":"4111111111111111"}', False, tenant="acme", holder="merchant_1", space="v1", customer="cus_1",
           reference="0198f0a2-7c1e-7000-8000-000000000001", kind="card", key_id=K1, key_version=1,
           created_at=1762000000000000, expires_at=1982752000000000),
    record("empty plaintext, never expires", b"", False, tenant="acme", holder="", space="v1", customer="", reference="", kind="data",
           key_id=K2, key_version=4294967295, created_at=0, expires_at=0),
    record("entity secret", b'{"data":null}', True, tenant="t", holder="entity", space="v2", customer="", reference="vault-1",
           kind="vault", key_id=K1, key_version=2, created_at=-1, expires_at=9223372036854775807),
    record("text that is not ASCII", "é".encode(), False, tenant="tenant-ü", holder="marché", space="v1", customer="客户",
           reference="réf", kind="data", key_id=K1, key_version=256, created_at=1, expires_at=2),
]
WRAPPED = [
    wrapped("branch key", bytes_of("branch", 32), tenant="acme", holder="merchant_1", purpose="branch", key_id=K1, version=1, kek=K2),
    wrapped("tenant key", bytes_of("dedupe", 32), tenant="acme", holder="", purpose="dedupe", key_id=K2, version=7, kek=NIL),
    wrapped("longest key", bytes_of("longest", 64), tenant="t", holder="", purpose="fingerprint", key_id=K1, version=4294967295, kek=K1),
]
MACS = [
    mac("no parts", "cardea dedupe v1"),
    mac("parts", "cardea dedupe v1", b"acme", b"", b"4111111111111111"),
    mac("longer than a block", "cardea fingerprint v1", bytes(200)),
]
KMS_BLOBS = [
    kms_blob("data key", bytes_of("data key", 32), "111122223333", "1234abcd-12ab-34cd-56ef-1234567890ab",
             {"tenant": "acme", "purpose": "branch key"}),
    kms_blob("multi-Region key, no context", b"x", "000000000000", "mrk-1234abcd12ab34cd56ef1234567890ab", {}),
    kms_blob("a, bc", b"x", "999999999999", "ffffffff-ffff-ffff-ffff-ffffffffffff", {"a": "bc"}),
    kms_blob("ab, c", b"x", "999999999999", "ffffffff-ffff-ffff-ffff-ffffffffffff", {"ab": "c"}),
    kms_blob("order of bytes", b"x", "111122223333", "00000000-0000-0000-0000-000000000000",
             {"\U0001f511": "4 bytes", "\uffee": "3 bytes", "Z": "", "a": "1", "é": "2"}),
]
ARN = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
KMS_WRAPPED = [
    kms_wrapped("branch key", 2, K1, 1, ARN, bytes_of("kms branch", 184)),
    kms_wrapped("shortest", 2, K2, 4294967295, "k", b"x"),
    kms_wrapped("reference", 5, K2, 7, ARN, b""),
]
BOUND = [  # to what keys of modes 03 and 04 are bound
    ("branch key", dict(tenant="acme", holder="merchant_1", purpose="record", key_id=K1, version=1)),
    ("key of the tenant", dict(tenant="acme", holder="", purpose="dedupe", key_id=K2, version=4294967295)),
    ("text that is not ASCII", dict(tenant="tenant-ü", holder="marché", purpose="fingerprint", key_id=K1, version=256)),
]
HSM_WRAPPED = [hsm_wrapped(name, "pkcs11:token=t%20one;object=vault", **b) for name, b in BOUND]
EXTERNAL_WRAPPED = [external_wrapped(name, **b) for name, b in BOUND]
KMS_RECORDS = [
    kms_record("card", ARN, bytes_of("kms card", 200), False, tenant="acme", holder="merchant_1", space="v1", customer="cus_1",
               reference="0198f0a2-7c1e-7000-8000-000000000001", kind="card", key_id=K1, key_version=1,
               created_at=1762000000000000, expires_at=1982752000000000),
    kms_record("entity secret", ARN, bytes_of("kms json", 6144), True, tenant="t", holder="entity", space="v2", customer="", reference="vault-1",
               kind="json", key_id=K1, key_version=2, created_at=-1, expires_at=9223372036854775807),
    kms_record("text that is not ASCII", "k", b"x", False, tenant="tenant-ü", holder="marché", space="v1", customer="客户",
               reference="réf", kind="data", key_id=K2, key_version=256, created_at=1, expires_at=0),
]
for name, vectors in (("record", RECORDS), ("wrapped", WRAPPED), ("mac", MACS), ("kmsblob", KMS_BLOBS),
                      ("kmswrapped", KMS_WRAPPED), ("kmsrecord", KMS_RECORDS),
                      ("hsmwrapped", HSM_WRAPPED), ("externalwrapped", EXTERNAL_WRAPPED)):
    with open(os.path.join(HERE, name + ".json"), "w", encoding="utf-8") as f:
        json.dump(vectors, f, indent=1, ensure_ascii=False)
        f.write("\n")
