resource "aws_kms_ciphertext" "password" {
  key_id    = aws_kms_key.service["s3-cde"].key_id
  plaintext = "a password of stage ${var.stage}"
  context   = { tenant = "shop" }
}

data "aws_kms_secrets" "password" {
  secret {
    name    = "password"
    payload = aws_kms_ciphertext.password.ciphertext_blob
    context = { tenant = "shop" }
  }
}

output "opened" {
  value     = data.aws_kms_secrets.password.plaintext["password"]
  sensitive = true
}
