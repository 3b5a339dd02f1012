# A key a service and environment, with automatic rotation each 90 days and an alias.
locals {
  services = {
    rds-prod = { service = "RDS", environment = "Production", pci = "false" }
    s3-cde   = { service = "S3", environment = "CDE", pci = "true" }
  }
}

data "aws_iam_policy_document" "key" {
  statement {
    sid       = "EnableIAMPolicies"
    actions   = ["kms:*"]
    resources = ["*"]
    principals {
      type        = "AWS"
      identifiers = ["arn:aws:iam::${local.account}:root"]
    }
  }
  statement {
    sid       = "AllowUseFromInsideWithMFA"
    actions   = ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"]
    resources = ["*"]
    principals {
      type        = "AWS"
      identifiers = ["arn:aws:iam::${local.account}:role/app"]
    }
    condition {
      test     = "Bool"
      variable = "aws:MultiFactorAuthPresent"
      values   = ["true"]
    }
    condition {
      test     = "IpAddress"
      variable = "aws:SourceIp"
      values   = var.stage == 1 ? ["10.0.0.0/8"] : ["10.0.0.0/8", "192.168.0.0/16"]
    }
  }
  statement {
    sid       = "AllowServicesToGrant"
    actions   = ["kms:CreateGrant"]
    resources = ["*"]
    principals {
      type        = "AWS"
      identifiers = ["arn:aws:iam::${local.account}:role/app", "arn:aws:iam::${local.account}:role/backup"]
    }
    condition {
      test     = "Bool"
      variable = "kms:GrantIsForAWSResource"
      values   = ["true"]
    }
    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = ["s3.us-east-1.amazonaws.com"]
    }
  }
}

resource "aws_kms_key" "service" {
  for_each                = local.services
  description             = var.stage == 1 ? "CMK of ${each.key}" : "CMK of ${each.key}, reviewed"
  deletion_window_in_days = 7
  enable_key_rotation     = true
  rotation_period_in_days = var.stage == 1 ? 90 : 365
  policy                  = data.aws_iam_policy_document.key.json
  tags = merge(
    { Environment = each.value.environment, Service = each.value.service },
    var.stage == 1 ? { PCIScope = each.value.pci } : { Reviewed = "yes" },
  )
}

resource "aws_kms_alias" "service" {
  for_each      = local.services
  name          = "alias/${each.key}-cmk"
  target_key_id = aws_kms_key.service[each.key].key_id
}

# A key without a policy, whose policy is a resource of its own.
resource "aws_kms_key" "plain" {
  description             = "default policy"
  deletion_window_in_days = 7
  is_enabled              = var.stage == 1
}

resource "aws_kms_key_policy" "policied" {
  key_id = aws_kms_key.policied.id
  policy = data.aws_iam_policy_document.key.json
}

resource "aws_kms_key" "policied" {
  description             = "its policy is put afterwards"
  deletion_window_in_days = 7
}

# The alias moves in the second stage.
resource "aws_kms_alias" "moving" {
  name_prefix   = "alias/moving-"
  target_key_id = var.stage == 1 ? aws_kms_key.plain.arn : aws_kms_key.policied.arn
}

data "aws_kms_key" "by_alias" {
  key_id = aws_kms_alias.service["s3-cde"].name
}

data "aws_kms_alias" "by_name" {
  name = aws_kms_alias.service["rds-prod"].name
}

output "found" {
  value = {
    key    = data.aws_kms_key.by_alias.arn == aws_kms_key.service["s3-cde"].arn && data.aws_kms_key.by_alias.key_state == "Enabled"
    alias  = data.aws_kms_alias.by_name.target_key_arn == aws_kms_key.service["rds-prod"].arn
    caller = data.aws_caller_identity.me.arn
  }
}
