# Keys that do not rotate: their status is read all the same.
resource "aws_kms_key" "signing" {
  description              = "signs releases"
  deletion_window_in_days  = 7
  key_usage                = "SIGN_VERIFY"
  customer_master_key_spec = "ECC_NIST_P256"
}

resource "aws_kms_key" "decrypting" {
  description              = "receives"
  deletion_window_in_days  = 7
  key_usage                = "ENCRYPT_DECRYPT"
  customer_master_key_spec = "RSA_2048"
}

resource "aws_kms_key" "mac" {
  description              = "codes"
  deletion_window_in_days  = 7
  key_usage                = "GENERATE_VERIFY_MAC"
  customer_master_key_spec = "HMAC_256"
}

resource "aws_kms_key" "agreeing" {
  description              = "agrees"
  deletion_window_in_days  = 7
  key_usage                = "KEY_AGREEMENT"
  customer_master_key_spec = "ECC_NIST_P384"
}

data "aws_kms_public_key" "signing" {
  key_id = aws_kms_key.signing.arn
}

output "public_key" {
  value = data.aws_kms_public_key.signing.public_key_pem
}
