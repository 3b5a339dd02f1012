# An HSM cluster of one's own and a custom key store on it, for keys whose material must
# not be in HSMs shared with others. Between the steps custodians act by hand, under dual
# control: see README.md.

locals {
  cluster_id = var.cluster_id != null ? var.cluster_id : aws_cloudhsm_v2_cluster.this[0].cluster_id
  new        = var.cluster_id == null
  hsms       = local.new ? slice(var.subnet_ids, 0, var.initialized ? 2 : 1) : []
}

resource "aws_cloudhsm_v2_cluster" "this" {
  count = local.new ? 1 : 0

  hsm_type   = var.hsm_type
  mode       = var.hsm_type == "hsm1.medium" ? null : "FIPS"
  subnet_ids = var.subnet_ids
  tags       = merge(var.tags, { Name = var.name })
}

resource "aws_cloudhsm_v2_hsm" "this" {
  count = length(local.hsms)

  cluster_id = aws_cloudhsm_v2_cluster.this[0].cluster_id
  subnet_id  = local.hsms[count.index]
}

# For the machine on which custodians initialise the cluster and make kmsuser.
resource "aws_security_group" "client" {
  count = local.new ? 1 : 0

  name        = "${var.name}-hsm-client"
  description = "Who reaches the HSMs: the machine of the custodians"
  vpc_id      = var.vpc_id
  tags        = merge(var.tags, { Name = "${var.name}-hsm-client" })
}

resource "aws_vpc_security_group_ingress_rule" "hsm" {
  count = local.new ? 1 : 0

  security_group_id            = aws_cloudhsm_v2_cluster.this[0].security_group_id
  referenced_security_group_id = aws_security_group.client[0].id
  description                  = "HSM clients"
  ip_protocol                  = "tcp"
  from_port                    = 2223
  to_port                      = 2225
  tags                         = var.tags
}

resource "aws_vpc_security_group_egress_rule" "client" {
  count = local.new ? 1 : 0

  security_group_id            = aws_security_group.client[0].id
  referenced_security_group_id = aws_cloudhsm_v2_cluster.this[0].security_group_id
  description                  = "To the HSMs"
  ip_protocol                  = "tcp"
  from_port                    = 2223
  to_port                      = 2225
  tags                         = var.tags
}

resource "aws_kms_custom_key_store" "this" {
  count = var.trust_anchor_certificate != null ? 1 : 0

  custom_key_store_name    = var.name
  cloud_hsm_cluster_id     = local.cluster_id
  key_store_password       = var.key_store_password
  trust_anchor_certificate = var.trust_anchor_certificate

  depends_on = [aws_cloudhsm_v2_hsm.this]
}

module "keys" {
  source = "../service-keys"
  count  = var.connected && length(var.keys) > 0 ? 1 : 0

  account_id       = var.account_id
  region           = var.region
  environment      = var.environment
  administrators   = var.administrators
  provisioners     = var.provisioners
  vpc_endpoint_ids = var.vpc_endpoint_ids
  allowed_cidrs    = var.allowed_cidrs
  tags             = var.tags

  keys = { for name, k in var.keys : name => {
    users               = k.users
    kind                = k.kind
    via_services        = k.via_services
    encryption_context  = k.encryption_context
    tags                = k.tags
    custom_key_store_id = aws_kms_custom_key_store.this[0].id
  } }
}
