# KMS from inside the VPC: calls do not cross the internet, and carry the endpoint's id,
# which the key policies ask for (aws:SourceVpce).

locals {
  policy = {
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "OnlyOursAndOnlyOurKeys"
        Effect    = "Allow"
        Principal = { AWS = var.principals }
        Action = [
          "kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:GenerateMac",
          "kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:Sign", "kms:Verify", "kms:VerifyMac", "kms:GetPublicKey",
        ]
        Resource  = [for a in concat([var.account_id], var.key_account_ids) : "arn:*:kms:*:${a}:key/*"]
        Condition = { StringEquals = { "aws:PrincipalAccount" = [var.account_id] } }
      },
      {
        # Somebody else's key would take our data out.
        Sid       = "NoForeignKeys"
        Effect    = "Deny"
        Principal = { AWS = "*" }
        Action    = ["kms:*"]
        Resource  = "*"
        Condition = { StringNotEquals = { "aws:ResourceAccount" = concat([var.account_id], var.key_account_ids) } }
      },
    ]
  }
}

resource "aws_security_group" "endpoint" {
  name        = "${var.name}-endpoint"
  description = "Who reaches KMS"
  vpc_id      = var.vpc_id
  tags        = merge(var.tags, { Name = "${var.name}-endpoint" })
}

resource "aws_vpc_security_group_ingress_rule" "https" {
  for_each = var.client_security_group_ids

  security_group_id            = aws_security_group.endpoint.id
  referenced_security_group_id = each.value
  description                  = "HTTPS from ${each.key}"
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
  tags                         = var.tags
}

resource "aws_vpc_endpoint" "kms" {
  vpc_id              = var.vpc_id
  service_name        = "com.amazonaws.${var.region}.${var.fips ? "kms-fips" : "kms"}"
  vpc_endpoint_type   = "Interface"
  subnet_ids          = var.subnet_ids
  security_group_ids  = [aws_security_group.endpoint.id]
  private_dns_enabled = true
  policy              = jsonencode(local.policy)
  tags                = merge(var.tags, { Name = var.name })
}
