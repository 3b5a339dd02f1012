resource "aws_kms_grant" "equals" {
  name               = "app-${var.stage}"
  key_id             = aws_kms_key.service["s3-cde"].key_id
  grantee_principal  = "arn:aws:iam::${local.account}:role/app"
  retiring_principal = "arn:aws:iam::${local.account}:role/backup"
  operations         = ["Encrypt", "Decrypt", "GenerateDataKey", "DescribeKey"]
  constraints {
    encryption_context_equals = { tenant = "shop" }
  }
}

resource "aws_kms_grant" "subset" {
  key_id                = aws_kms_key.service["rds-prod"].arn
  grantee_principal     = "arn:aws:iam::${local.account}:role/backup"
  operations            = ["Decrypt", "CreateGrant", "RetireGrant"]
  retire_on_delete      = true
  retiring_principal    = data.aws_caller_identity.me.arn
  grant_creation_tokens = []
  constraints {
    encryption_context_subset = { purpose = "backup", tenant = "shop" }
  }
}
