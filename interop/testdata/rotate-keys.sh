#!/bin/bash
# Replaces a key: makes a new one like it, lets the old one's aliases name it, and,
# with --verify, checks that what the old key encrypted is re-encrypted and opens.
set -euo pipefail
verify=no
while [ $# -gt 0 ]; do
  case $1 in
    --key-id) key=$2; shift 2 ;;
    --verify) verify=yes; shift ;;
    *) echo "unknown: $1" >&2; exit 2 ;;
  esac
done
kms() { aws ${AWS_ENDPOINT_URL_KMS:+--endpoint-url "$AWS_ENDPOINT_URL_KMS"} --output text kms "$@"; }
policy=$(kms get-key-policy --key-id "$key" --policy-name default --query Policy)
description=$(kms describe-key --key-id "$key" --query KeyMetadata.Description)
new=$(kms create-key --description "$description" --policy "$policy" --query KeyMetadata.Arn)
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
if [ $verify = yes ]; then
  head -c 32 /dev/urandom >"$work/plain"
  kms encrypt --key-id "$key" --plaintext "fileb://$work/plain" --query CiphertextBlob | base64 -d >"$work/old"
fi
for alias in $(kms list-aliases --key-id "$key" --query 'Aliases[].AliasName'); do
  kms update-alias --alias-name "$alias" --target-key-id "$new"
done
if [ $verify = yes ]; then
  kms re-encrypt --ciphertext-blob "fileb://$work/old" --destination-key-id "$new" --query CiphertextBlob | base64 -d >"$work/new"
  kms decrypt --ciphertext-blob "fileb://$work/new" --key-id "$new" --query Plaintext | base64 -d | cmp - "$work/plain"
fi
echo "$new"
