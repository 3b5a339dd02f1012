# The policy of a key. Nothing is left to IAM policies: whoever is not named here can do
# nothing. What is allowed is named action by action; what must never happen is denied
# besides, so that a statement added later, a grant or an identity policy cannot allow it.

locals {
  root = "arn:${var.partition}:iam::${var.account_id}:root"

  read_actions = ["kms:DescribeKey", "kms:GetKeyPolicy", "kms:GetKeyRotationStatus", "kms:ListGrants", "kms:ListKeyPolicies", "kms:ListKeyRotations", "kms:ListResourceTags"]

  # What Terraform needs to create and configure.
  provision_actions = [
    "kms:CreateAlias", "kms:DeleteAlias", "kms:EnableKey", "kms:EnableKeyRotation", "kms:PutKeyPolicy", "kms:ReplicateKey", "kms:TagResource",
    "kms:UntagResource", "kms:UpdateAlias", "kms:UpdateKeyDescription",
  ]

  # What ends or weakens a key.
  destructive_actions = ["kms:DeleteImportedKeyMaterial", "kms:DisableKey", "kms:DisableKeyRotation", "kms:ScheduleKeyDeletion", "kms:UpdatePrimaryRegion"]

  administer_actions = concat(local.provision_actions, local.destructive_actions, [
    "kms:CancelKeyDeletion", "kms:GetParametersForImport", "kms:ImportKeyMaterial", "kms:RevokeGrant", "kms:RotateKeyOnDemand",
  ])

  cryptographic_actions = [
    "kms:Encrypt", "kms:Decrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:GenerateDataKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:GenerateDataKeyPair",
    "kms:GenerateDataKeyPairWithoutPlaintext", "kms:GenerateMac", "kms:VerifyMac", "kms:Sign", "kms:Verify", "kms:DeriveSharedSecret",
  ]

  # Users by name, or by the account with a condition: then their identity policies must allow it as well, and they
  # need not exist yet.
  user_principals = var.users_need_identity_policy ? [local.root] : var.users
  user_condition  = var.users_need_identity_policy ? { "aws:PrincipalArn" = var.users } : null

  use_actions = [for a in var.use_actions : "kms:${a}"]
  services    = flatten([for s in var.via_services : [for r in var.regions : "${s}.${r}.amazonaws.com"]])
  pairs       = { for name, values in var.encryption_context : "kms:EncryptionContext:${name}" => values }

  mfa      = var.require_mfa ? { "aws:MultiFactorAuthPresent" = "true" } : null
  mfa_age  = var.require_mfa ? { "aws:MultiFactorAuthAge" = tostring(var.mfa_max_age_seconds) } : null
  from     = length(var.administrator_cidrs) > 0 ? { "aws:SourceIp" = var.administrator_cidrs } : null
  internal = length(var.vpc_endpoint_ids) + length(var.allowed_cidrs) > 0

  # Each is a statement or null; members that are null, and conditions that are empty, are left out below.
  candidates = [
    var.root_recovery ? {
      Sid       = "RecoverByRootUser"
      Effect    = "Allow"
      Principal = { AWS = local.root }
      Action    = ["kms:CancelKeyDeletion", "kms:DescribeKey", "kms:EnableKey", "kms:GetKeyPolicy", "kms:PutKeyPolicy"]
      Condition = {
        StringEquals = { "aws:PrincipalType" = "Account" } # the root user itself, not those whom IAM policies allow
        Bool         = local.mfa
      }
    } : null,
    {
      Sid       = "Administer"
      Effect    = "Allow"
      Principal = { AWS = var.administrators }
      Action    = concat(local.read_actions, local.administer_actions)
      Condition = {
        Bool                  = local.mfa
        NumericLessThanEquals = local.mfa_age
        IpAddress             = local.from
      }
    },
    length(var.provisioners) > 0 ? {
      Sid       = "Provision"
      Effect    = "Allow"
      Principal = { AWS = var.provisioners }
      Action    = concat(local.read_actions, local.provision_actions)
      Condition = {
        IpAddress = local.from
      }
    } : null,
    length(var.users) > 0 && length(local.services) == 0 ? {
      Sid       = "UseDirectly"
      Effect    = "Allow"
      Principal = { AWS = local.user_principals }
      Action    = local.use_actions
      Condition = {
        ArnEquals    = local.user_condition
        StringEquals = length(local.pairs) > 0 ? local.pairs : null
        Null         = length(var.encryption_context_keys) > 0 ? { for name in var.encryption_context_keys : "kms:EncryptionContext:${name}" => "false" } : null
      }
    } : null,
    length(var.users) > 0 && length(local.services) > 0 ? {
      Sid       = "UseThroughServices"
      Effect    = "Allow"
      Principal = { AWS = local.user_principals }
      Action    = local.use_actions
      Condition = {
        ArnEquals    = local.user_condition
        StringEquals = merge({ "kms:ViaService" = local.services, "kms:CallerAccount" = [var.account_id] }, local.pairs)
      }
    } : null,
    var.grants_for_aws_resources && length(var.users) > 0 ? {
      Sid       = "GrantToResourcesOfServices"
      Effect    = "Allow"
      Principal = { AWS = local.user_principals }
      Action    = ["kms:CreateGrant", "kms:ListGrants", "kms:RevokeGrant"]
      Condition = {
        ArnEquals    = local.user_condition
        Bool         = { "kms:GrantIsForAWSResource" = "true" }
        StringEquals = { "kms:ViaService" = local.services, "kms:CallerAccount" = [var.account_id] }
      }
    } : null,
    length(var.users) > 0 ? {
      Sid       = "Describe"
      Effect    = "Allow"
      Principal = { AWS = local.user_principals }
      Action    = ["kms:DescribeKey"]
      Condition = { ArnEquals = local.user_condition }
    } : null,
  ]

  services_own = [for i, p in var.service_principals : {
    Sid       = "UseByService${i}"
    Effect    = "Allow"
    Principal = { Service = p.service }
    Action    = [for a in p.actions : "kms:${a}"]
    Condition = {
      StringEquals = p.source_account ? { "aws:SourceAccount" = var.account_id } : null # no confused deputy
      ArnLike      = length(p.source_arns) > 0 ? { "aws:SourceArn" = p.source_arns } : null
      StringLike   = length(p.encryption_context) > 0 ? { for name, value in p.encryption_context : "kms:EncryptionContext:${name}" => value } : null
    }
  }]

  denials = [
    {
      Sid       = "DenyOtherAccounts"
      Effect    = "Deny"
      Principal = { AWS = "*" }
      Action    = ["kms:*"]
      Condition = {
        StringNotEquals = { "kms:CallerAccount" = concat([var.account_id], var.shared_account_ids) }
        Bool            = { "aws:PrincipalIsAWSService" = "false" }
      }
    },
    var.require_tls ? {
      Sid       = "DenyWithoutTLS"
      Effect    = "Deny"
      Principal = { AWS = "*" }
      Action    = ["kms:*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    } : null,
    {
      Sid       = "DenyLockoutBypass"
      Effect    = "Deny"
      Principal = { AWS = "*" }
      Action    = ["kms:PutKeyPolicy", "kms:ReplicateKey"]
      Condition = { Bool = { "kms:BypassPolicyLockoutSafetyCheck" = "true" } }
    },
    var.require_mfa ? {
      Sid       = "DenyDestructionWithoutMFA"
      Effect    = "Deny"
      Principal = { AWS = "*" }
      Action    = local.destructive_actions
      Condition = { BoolIfExists = { "aws:MultiFactorAuthPresent" = "false" } } # absent with long-term keys: denied too
    } : null,
    {
      Sid       = "DenyHastyDeletion"
      Effect    = "Deny"
      Principal = { AWS = "*" }
      Action    = ["kms:ScheduleKeyDeletion"]
      Condition = { NumericLessThan = { "kms:ScheduleKeyDeletionPendingWindowInDays" = tostring(var.deletion_window_in_days) } }
    },
    {
      Sid       = "DenySlowRotation"
      Effect    = "Deny"
      Principal = { AWS = "*" }
      Action    = ["kms:EnableKeyRotation"]
      Condition = { NumericGreaterThan = { "kms:RotationPeriodInDays" = tostring(var.max_rotation_period_in_days) } }
    },
    {
      Sid       = "DenyUseByAdministrators"
      Effect    = "Deny"
      Principal = { AWS = "*" }
      Action    = concat(local.cryptographic_actions, ["kms:CreateGrant"])
      Condition = { ArnEquals = { "aws:PrincipalArn" = distinct(concat(var.administrators, var.provisioners)) } }
    },
    length(var.users) > 0 ? {
      Sid       = "DenyAdministrationByUsers"
      Effect    = "Deny"
      Principal = { AWS = "*" }
      # A user revokes the grants that a service made for it.
      Action    = [for a in local.administer_actions : a if a != "kms:RevokeGrant"]
      Condition = { ArnEquals = { "aws:PrincipalArn" = var.users } }
    } : null,
    {
      Sid       = "DenyGrantsToOthersThanServices"
      Effect    = "Deny"
      Principal = { AWS = "*" }
      Action    = ["kms:CreateGrant"]
      Condition = { BoolIfExists = { "kms:GrantIsForAWSResource" = "false" } }
    },
    local.internal ? {
      Sid       = "DenyUseFromOutside"
      Effect    = "Deny"
      Principal = { AWS = "*" }
      Action    = local.cryptographic_actions
      Condition = {
        StringNotEquals = length(var.vpc_endpoint_ids) > 0 ? { "aws:SourceVpce" = var.vpc_endpoint_ids } : null
        NotIpAddress    = length(var.allowed_cidrs) > 0 ? { "aws:SourceIp" = var.allowed_cidrs } : null
        BoolIfExists    = { "aws:ViaAWSService" = "false" } # a service's address is its own: kms:ViaService rules there
        Bool            = { "aws:PrincipalIsAWSService" = "false" }
      }
    } : null,
  ]

  # One each: the keys of one condition would have to fail together.
  context_denials = [for name, values in local.pairs : {
    Sid       = "DenyForeignContext${replace(title(replace(element(split(":", name), 2), "/[^A-Za-z0-9]/", " ")), " ", "")}"
    Effect    = "Deny"
    Principal = { AWS = "*" }
    Action    = ["kms:Encrypt", "kms:Decrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:GenerateDataKey", "kms:GenerateDataKeyWithoutPlaintext"]
    Condition = { StringNotEquals = { (name) = values } } # absent: denied too
  }]

  statements = [for s in concat(local.candidates, local.services_own, local.denials, local.context_denials) : {
    for member, value in merge(s, {
      Resource  = "*"
      Condition = { for operator, keys in s.Condition : operator => keys if keys != null }
    }) : member => value if member != "Condition" || length(value) > 0
  } if s != null]

  policy = {
    Version   = "2012-10-17"
    Id        = "cardea-key-policy-1"
    Statement = concat(local.statements, jsondecode(var.additional_statements_json))
  }
}
