#!/usr/bin/env python3
"""Envelope encryption: a data key of the key service encrypts, and only the wrapped
data key is stored beside what it encrypted. With --decrypt the other way round."""

import argparse
import base64
import json
import os

import boto3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

CONTEXT = {"purpose": "envelope-encryption-example"}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--key-id")
    parser.add_argument("--plaintext")
    parser.add_argument("--output")
    parser.add_argument("--decrypt")
    args = parser.parse_args()
    kms = boto3.client("kms", endpoint_url=os.environ.get("AWS_ENDPOINT_URL_KMS"))
    if args.decrypt:
        with open(args.decrypt) as f:
            sealed = {name: base64.b64decode(value) for name, value in json.load(f).items()}
        key = kms.decrypt(CiphertextBlob=sealed["wrapped_key"], EncryptionContext=CONTEXT)["Plaintext"]
        print(AESGCM(key).decrypt(sealed["nonce"], sealed["ciphertext"], None).decode())
        return
    key = kms.generate_data_key(KeyId=args.key_id, KeySpec="AES_256", EncryptionContext=CONTEXT)
    nonce = os.urandom(12)
    sealed = {
        "nonce": nonce,
        "ciphertext": AESGCM(key["Plaintext"]).encrypt(nonce, args.plaintext.encode(), None),
        "wrapped_key": key["CiphertextBlob"],
    }
    with open(args.output, "w") as f:
        json.dump({name: base64.b64encode(value).decode() for name, value in sealed.items()}, f)


main()
