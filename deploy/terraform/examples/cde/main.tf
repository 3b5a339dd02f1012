# A cardholder data environment: keys by service and tenant with replicas in another
# Region, the vault's role, KMS from inside the VPC, the record of it all, and alarms.

locals {
  aws            = var.only_keys ? 0 : 1
  vault_role     = "cardea-vault-${var.environment}"
  vault_role_arn = "arn:aws:iam::${var.account_id}:role/${local.vault_role}"
  endpoints      = module.vpc_endpoint[*].id
  direct         = { for name, t in var.tenants : name => t if t.mode == "aws_kms" }
  tags           = { ManagedBy = "terraform", System = "cardea" }

  tenant_keys = { for name, t in var.tenants : "vault-${name}" => {
    kind                    = "vault"
    users                   = [local.vault_role_arn]
    use_actions             = t.mode == "aws_kms" ? ["Decrypt", "Encrypt"] : ["Decrypt", "GenerateDataKey"]
    encryption_context      = { tenant = [name] }
    encryption_context_keys = ["purpose"]
    multi_region            = true
  } }
  mac_keys = { for name, t in local.direct : "vault-${name}-mac" => {
    kind  = "vault-mac"
    users = [local.vault_role_arn]
  } }
}

module "sharing" {
  source = "../../modules/cross-account"

  account_id      = var.account_id
  regions         = [var.region, var.replica_region]
  organization_id = var.organization_id
  shares = { for s in var.recovery == null ? [] : [var.recovery] : "recovery" => {
    account_id   = s.account_id
    principals   = s.principals
    purpose      = "restore"
    via_services = ["rds"]
    expires      = s.expires
  } }
}

module "service_keys" {
  source = "../../modules/service-keys"

  account_id              = var.account_id
  region                  = var.region
  replica_regions         = [var.replica_region]
  environment             = var.environment
  administrators          = var.administrators
  provisioners            = var.provisioners
  vpc_endpoint_ids        = local.endpoints
  allowed_cidrs           = var.allowed_cidrs
  deletion_window_in_days = var.deletion_window_in_days
  require_tls             = var.endpoint == null ? true : startswith(var.endpoint, "https://")
  tags                    = local.tags

  keys = merge(
    {
      rds = {
        users                      = var.applications["rds"]
        multi_region               = true
        shared_account_ids         = module.sharing.account_ids
        additional_statements_json = module.sharing.statements_json
      }
      ebs     = { users = var.applications["ebs"] }
      s3      = { users = var.applications["s3"] }
      secrets = { users = var.applications["secrets"] }
      files   = { users = var.file_users }
    },
    local.tenant_keys,
    local.mac_keys,
  )
}

module "replicas" {
  source    = "../../modules/replica"
  providers = { aws = aws.dr }

  environment             = var.environment
  deletion_window_in_days = var.deletion_window_in_days
  tags                    = local.tags
  keys = { for name in concat(["rds"], keys(local.tenant_keys)) : name => {
    primary_key_arn = module.service_keys.key_arns[name]
    policy          = module.service_keys.policies[name]
    service         = name == "rds" ? "RDS" : "Vault"
  } }
}

module "vault_role" {
  source = "../../modules/vault-role"
  count  = local.aws

  name             = local.vault_role
  account_id       = var.account_id
  trusted_services = ["ec2.amazonaws.com"]
  instance_profile = true
  vpc_endpoint_ids = local.endpoints
  tags             = local.tags
  tenants = { for name, t in var.tenants : name => {
    mode             = t.mode
    key_arn          = module.service_keys.key_arns["vault-${name}"]
    replica_key_arns = [module.replicas.key_arns["vault-${name}"]]
    mac_key_arn      = t.mode == "aws_kms" ? module.service_keys.key_arns["vault-${name}-mac"] : null
  } }
}

module "vpc_endpoint" {
  source = "../../modules/vpc-endpoint"
  count  = local.aws

  name                      = "kms-${var.environment}"
  account_id                = var.account_id
  region                    = var.region
  vpc_id                    = var.vpc_id
  subnet_ids                = var.subnet_ids
  client_security_group_ids = { vault = var.vault_security_group_id }
  principals                = concat([local.vault_role_arn], var.file_users)
  tags                      = local.tags
}

module "cloudtrail" {
  source = "../../modules/cloudtrail"
  count  = local.aws

  name            = var.environment
  account_id      = var.account_id
  region          = var.region
  organization_id = var.organization_id
  bucket_name     = var.log_bucket_name
  readers         = var.log_readers
  administrators  = var.administrators
  provisioners    = var.provisioners
  tags            = local.tags
}

module "alarms" {
  source = "../../modules/alarms"
  count  = local.aws

  name            = "kms-${var.environment}"
  account_id      = var.account_id
  region          = var.region
  administrators  = var.administrators
  provisioners    = var.provisioners
  log_group_name  = module.cloudtrail[0].log_group_name
  log_bucket_name = var.log_bucket_name
  subscriptions   = { for m in compact([var.alarm_mail]) : "mail" => { protocol = "email", endpoint = m } }
  tags            = local.tags
}

module "cloudhsm" {
  source = "../../modules/cloudhsm"
  count  = var.cloudhsm ? local.aws : 0

  name                     = "${var.environment}-hsm"
  vpc_id                   = var.vpc_id
  subnet_ids               = var.subnet_ids
  initialized              = var.hsm_trust_anchor != null
  trust_anchor_certificate = var.hsm_trust_anchor
  key_store_password       = var.hsm_password
  connected                = var.hsm_connected
  account_id               = var.account_id
  region                   = var.region
  environment              = var.environment
  administrators           = var.administrators
  provisioners             = var.provisioners
  vpc_endpoint_ids         = local.endpoints
  tags                     = local.tags
  keys                     = { rds-hsm = { kind = "rds", users = var.applications["rds"] } }
}
