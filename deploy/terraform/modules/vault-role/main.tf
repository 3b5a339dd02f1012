# The role that the vault runs as. Its one policy is identity policy and permissions
# boundary at once: a key policy that names the role can then not give it more than this.

locals {
  through = length(var.vpc_endpoint_ids) > 0 ? { "aws:SourceVpce" = var.vpc_endpoint_ids } : {}

  names = { for name in keys(var.tenants) : name => replace(title(replace(name, "/[^A-Za-z0-9]/", " ")), " ", "") }

  # In the mode aws_kms records are KMS ciphertexts; branch keys are then made only for what is too long, and for
  # keyed hashes without a key in KMS.
  envelope = { for name, t in var.tenants : name => t.mode == "aws_kms_envelope" || t.oversize_envelope || t.mac_key_arn == null }

  statements = flatten([for name, t in var.tenants : [for s in [
    {
      Sid    = "Seal${local.names[name]}"
      Action = concat(t.mode == "aws_kms" ? ["kms:Encrypt"] : [], local.envelope[name] ? ["kms:GenerateDataKey"] : [], t.reencrypt ? ["kms:ReEncryptTo"] : [])
      Keys   = concat([t.key_arn], t.replica_key_arns)
      Condition = {
        StringEquals = merge({ "kms:EncryptionContext:tenant" = [name] }, local.through)
        Null         = { "kms:EncryptionContext:purpose" = "false" }
      }
    },
    {
      Sid    = "Open${local.names[name]}"
      Action = concat(["kms:Decrypt"], t.reencrypt ? ["kms:ReEncryptFrom"] : [])
      Keys   = concat([t.key_arn], t.replica_key_arns, t.previous_key_arns)
      Condition = {
        StringEquals = merge({ "kms:EncryptionContext:tenant" = [name] }, local.through)
        Null         = { "kms:EncryptionContext:purpose" = "false" }
      }
    },
    {
      Sid       = "Hash${local.names[name]}"
      Action    = ["kms:GenerateMac"]
      Keys      = compact([t.mac_key_arn])
      Condition = { StringEquals = merge({ "kms:MacAlgorithm" = ["HMAC_SHA_256"] }, local.through) }
    },
    {
      Sid       = "Check${local.names[name]}"
      Action    = ["kms:DescribeKey"]
      Keys      = concat([t.key_arn], t.replica_key_arns, compact([t.mac_key_arn]))
      Condition = {}
    },
    ] : {
    for member, value in { Sid = s.Sid, Effect = "Allow", Action = s.Action, Resource = s.Keys, Condition = s.Condition } : member => value
    if member != "Condition" || length(s.Condition) > 0
  } if length(s.Keys) > 0]])

  policy = { Version = "2012-10-17", Statement = local.statements }

  trust = {
    Version = "2012-10-17"
    Statement = concat(
      [for s in var.trusted_services : { for member, value in {
        Sid       = "TakenBy${replace(title(replace(trimsuffix(s, ".amazonaws.com"), "/[^A-Za-z0-9]/", " ")), " ", "")}"
        Effect    = "Allow"
        Principal = { Service = s }
        Action    = s == "pods.eks.amazonaws.com" ? ["sts:AssumeRole", "sts:TagSession"] : ["sts:AssumeRole"]
        Condition = s == "ecs-tasks.amazonaws.com" ? { StringEquals = { "aws:SourceAccount" = var.account_id } } : null # EC2 tells none
      } : member => value if value != null }],
      [for o in var.oidc == null ? [] : [var.oidc] : {
        Sid       = "TakenByIdentityProvider"
        Effect    = "Allow"
        Principal = { Federated = o.provider_arn }
        Action    = ["sts:AssumeRoleWithWebIdentity"]
        Condition = { StringEquals = { "${o.issuer}:sub" = o.subject, "${o.issuer}:aud" = o.audience } }
      }],
    )
  }
}

resource "aws_iam_policy" "vault" {
  name        = var.name
  description = "What the vault may do in KMS, and the most that its role may do at all."
  policy      = jsonencode(local.policy)
  tags        = var.tags
}

resource "aws_iam_role" "vault" {
  name                 = var.name
  description          = "The card vault."
  assume_role_policy   = jsonencode(local.trust)
  permissions_boundary = aws_iam_policy.vault.arn
  max_session_duration = var.max_session_seconds
  tags                 = var.tags
}

resource "aws_iam_role_policy_attachment" "vault" {
  role       = aws_iam_role.vault.name
  policy_arn = aws_iam_policy.vault.arn
}

resource "aws_iam_instance_profile" "vault" {
  count = var.instance_profile ? 1 : 0

  name = var.name
  role = aws_iam_role.vault.name
  tags = var.tags
}
