# Both halves of sharing a key with another account, which needs both: statements for
# the key's policy, and the identity policy that the other account gives to its roles.

locals {
  actions = {
    restore = ["kms:Decrypt"]
    backup  = ["kms:Decrypt", "kms:GenerateDataKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom", "kms:ReEncryptTo"]
  }

  conditions = { for name, s in var.shares : name => {
    StringEquals = merge(
      {
        "kms:CallerAccount" = [s.account_id]
        "kms:ViaService"    = flatten([for v in s.via_services : [for r in var.regions : "${v}.${r}.amazonaws.com"]])
      },
      { for o in compact([var.organization_id]) : "aws:PrincipalOrgID" => [o] },
      { for pair, values in s.encryption_context : "kms:EncryptionContext:${pair}" => values },
    )
    DateLessThan = s.expires == null ? null : { "aws:CurrentTime" = s.expires }
  } }

  statements = flatten([for name, s in var.shares : [
    {
      Sid       = "Share${replace(title(replace(name, "/[^A-Za-z0-9]/", " ")), " ", "")}"
      Effect    = "Allow"
      Principal = { AWS = s.principals }
      Action    = local.actions[s.purpose]
      Resource  = "*"
      Condition = { for operator, keys in local.conditions[name] : operator => keys if keys != null }
    },
    {
      Sid       = "Describe${replace(title(replace(name, "/[^A-Za-z0-9]/", " ")), " ", "")}"
      Effect    = "Allow"
      Principal = { AWS = s.principals }
      Action    = ["kms:DescribeKey"]
      Resource  = "*"
      Condition = { StringEquals = { "kms:CallerAccount" = [s.account_id] } }
    },
  ]])

  grants = [for name, s in var.shares : {
    Sid       = "Grants${replace(title(replace(name, "/[^A-Za-z0-9]/", " ")), " ", "")}"
    Effect    = "Allow"
    Principal = { AWS = s.principals }
    Action    = ["kms:CreateGrant"]
    Resource  = "*"
    Condition = {
      Bool         = { "kms:GrantIsForAWSResource" = "true" }
      StringEquals = { "kms:CallerAccount" = [s.account_id], "kms:ViaService" = local.conditions[name].StringEquals["kms:ViaService"] }
    }
  } if s.purpose == "backup"]
}
