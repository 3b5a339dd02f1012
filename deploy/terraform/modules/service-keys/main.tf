# One key a service and environment, so that one key's loss is one service's, and its
# policy names only those who need it. Names are <service>-<environment>-cmk.

locals {
  symmetric = ["Encrypt", "Decrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "ReEncryptFrom", "ReEncryptTo"]

  # What a key is for, unless the caller says otherwise. grants: the service works through grants.
  catalogue = {
    rds       = { service = "RDS", via = ["rds"], grants = true, actions = local.symmetric, context = [], spec = "SYMMETRIC_DEFAULT" }
    ebs       = { service = "EBS", via = ["ec2"], grants = true, actions = local.symmetric, context = [], spec = "SYMMETRIC_DEFAULT" }
    s3        = { service = "S3", via = ["s3"], grants = false, actions = ["Decrypt", "GenerateDataKey"], context = [], spec = "SYMMETRIC_DEFAULT" }
    secrets   = { service = "SecretsManager", via = ["secretsmanager"], grants = false, actions = ["Decrypt", "GenerateDataKey"], context = [], spec = "SYMMETRIC_DEFAULT" }
    sns       = { service = "SNS", via = ["sns"], grants = false, actions = ["Decrypt", "GenerateDataKey"], context = [], spec = "SYMMETRIC_DEFAULT" }
    sqs       = { service = "SQS", via = ["sqs"], grants = false, actions = ["Decrypt", "GenerateDataKey"], context = [], spec = "SYMMETRIC_DEFAULT" }
    vault     = { service = "Vault", via = [], grants = false, actions = ["Decrypt", "GenerateDataKey"], context = ["tenant", "purpose"], spec = "SYMMETRIC_DEFAULT" }
    vault-mac = { service = "Vault", via = [], grants = false, actions = ["GenerateMac"], context = [], spec = "HMAC_256" }
    files     = { service = "Files", via = [], grants = false, actions = ["Decrypt", "Encrypt", "GenerateDataKey"], context = ["purpose"], spec = "SYMMETRIC_DEFAULT" }
  }

  kinds = { for name, k in var.keys : name => k.kind != null ? k.kind : name }

  keys = { for name, k in var.keys : name => {
    service     = try(local.catalogue[local.kinds[name]].service, name)
    both        = contains(["vault", "vault-mac", "files"], local.kinds[name])
    via         = k.via_services != null ? k.via_services : try(local.catalogue[local.kinds[name]].via, [])
    grants      = try(local.catalogue[local.kinds[name]].grants, false) && (k.via_services == null ? true : length(k.via_services) > 0)
    actions     = k.use_actions != null ? k.use_actions : try(local.catalogue[local.kinds[name]].actions, local.symmetric)
    context     = k.encryption_context_keys != null ? k.encryption_context_keys : try(local.catalogue[local.kinds[name]].context, [])
    spec        = k.key_spec != null ? k.key_spec : try(local.catalogue[local.kinds[name]].spec, "SYMMETRIC_DEFAULT")
    rotation    = k.rotation_period_in_days != null ? k.rotation_period_in_days : var.rotation_period_in_days
    window      = k.deletion_window_in_days != null ? k.deletion_window_in_days : var.deletion_window_in_days
    description = k.description != null ? k.description : "${name} of ${var.environment}"
    pci         = k.pci_scope != null ? k.pci_scope : var.environment == "cde" || startswith(local.kinds[name], "vault")
  } }

  # AWS rotates material of its own, symmetric, in its own HSMs; nothing else.
  rotates = { for name, k in local.keys : name => k.spec == "SYMMETRIC_DEFAULT" && var.keys[name].custom_key_store_id == null && k.rotation > 0 }
}

module "policy" {
  source   = "../key-policy"
  for_each = local.keys

  account_id                  = var.account_id
  partition                   = var.partition
  regions                     = concat([var.region], var.keys[each.key].multi_region ? var.replica_regions : [])
  administrators              = var.administrators
  provisioners                = var.provisioners
  users                       = var.keys[each.key].users
  users_need_identity_policy  = each.value.both
  use_actions                 = each.value.actions
  via_services                = each.value.via
  grants_for_aws_resources    = each.value.grants
  encryption_context          = var.keys[each.key].encryption_context
  encryption_context_keys     = each.value.context
  service_principals          = var.keys[each.key].service_principals
  vpc_endpoint_ids            = length(each.value.via) == 0 ? var.vpc_endpoint_ids : []
  allowed_cidrs               = length(each.value.via) == 0 ? var.allowed_cidrs : []
  administrator_cidrs         = var.administrator_cidrs
  require_mfa                 = var.require_mfa
  require_tls                 = var.require_tls
  deletion_window_in_days     = each.value.window
  max_rotation_period_in_days = max(var.max_rotation_period_in_days, each.value.rotation)
  shared_account_ids          = var.keys[each.key].shared_account_ids
  additional_statements_json  = var.keys[each.key].additional_statements_json
}

resource "aws_kms_key" "this" {
  for_each = local.keys

  description                        = each.value.description
  customer_master_key_spec           = each.value.spec
  key_usage                          = each.value.spec == "SYMMETRIC_DEFAULT" ? "ENCRYPT_DECRYPT" : "GENERATE_VERIFY_MAC"
  custom_key_store_id                = var.keys[each.key].custom_key_store_id
  multi_region                       = var.keys[each.key].multi_region
  policy                             = module.policy[each.key].json
  bypass_policy_lockout_safety_check = false
  enable_key_rotation                = local.rotates[each.key]
  rotation_period_in_days            = local.rotates[each.key] ? each.value.rotation : null
  deletion_window_in_days            = each.value.window

  tags = merge(var.tags, var.keys[each.key].tags, {
    Environment = var.environment
    Service     = each.value.service
    PCIScope    = tostring(each.value.pci)
  })
}

resource "aws_kms_alias" "this" {
  for_each = local.keys

  name          = "alias/${each.key}-${var.environment}-cmk"
  target_key_id = aws_kms_key.this[each.key].key_id
}
