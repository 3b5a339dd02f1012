# The record of who did what with the keys: all Regions, signed digests, in a bucket in
# which nobody can change or delete anything for three years.

locals {
  trail_arn  = "arn:${var.partition}:cloudtrail:${var.region}:${var.account_id}:trail/${var.name}"
  bucket_arn = "arn:${var.partition}:s3:::${var.bucket_name}"
  group      = "/cardea/cloudtrail/${var.name}"
  group_arn  = "arn:${var.partition}:logs:${var.region}:${var.account_id}:log-group:${local.group}"
  keepers    = distinct(concat(var.administrators, var.provisioners))

  bucket_policy = {
    Version = "2012-10-17"
    Statement = [for s in [
      {
        Sid       = "TrailChecks"
        Effect    = "Allow"
        Principal = { Service = "cloudtrail.amazonaws.com" }
        Action    = ["s3:GetBucketAcl"]
        Resource  = [local.bucket_arn]
        Condition = { StringEquals = { "aws:SourceArn" = local.trail_arn } }
      },
      {
        Sid       = "TrailWrites"
        Effect    = "Allow"
        Principal = { Service = "cloudtrail.amazonaws.com" }
        Action    = ["s3:PutObject"]
        Resource  = [for who in compact([var.account_id, var.organization_id]) : "${local.bucket_arn}/AWSLogs/${who}/*"]
        Condition = { StringEquals = { "aws:SourceArn" = local.trail_arn, "s3:x-amz-acl" = "bucket-owner-full-control" } }
      },
      length(var.readers) > 0 ? {
        Sid       = "ReadersList"
        Effect    = "Allow"
        Principal = { AWS = var.readers }
        Action    = ["s3:GetBucketLocation", "s3:ListBucket"]
        Resource  = [local.bucket_arn]
      } : null,
      length(var.readers) > 0 ? {
        Sid       = "ReadersRead"
        Effect    = "Allow"
        Principal = { AWS = var.readers }
        Action    = ["s3:GetObject", "s3:GetObjectVersion"]
        Resource  = ["${local.bucket_arn}/AWSLogs/*"]
      } : null,
      {
        Sid       = "DenyWithoutTLS"
        Effect    = "Deny"
        Principal = { AWS = "*" }
        Action    = ["s3:*"]
        Resource  = [local.bucket_arn, "${local.bucket_arn}/*"]
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
      {
        Sid       = "DenyOldTLS"
        Effect    = "Deny"
        Principal = { AWS = "*" }
        Action    = ["s3:*"]
        Resource  = [local.bucket_arn, "${local.bucket_arn}/*"]
        Condition = { NumericLessThan = { "s3:TlsVersion" = "1.2" } }
      },
      {
        Sid       = "DenyTampering"
        Effect    = "Deny"
        Principal = { AWS = "*" }
        Action    = ["s3:BypassGovernanceRetention", "s3:DeleteObject", "s3:DeleteObjectVersion", "s3:PutObjectAcl", "s3:PutObjectVersionAcl"]
        Resource  = ["${local.bucket_arn}/*"]
      },
      {
        Sid       = "DenyWritingByOthers"
        Effect    = "Deny"
        Principal = { AWS = "*" }
        Action    = ["s3:PutObject"]
        Resource  = ["${local.bucket_arn}/*"]
        Condition = { Bool = { "aws:PrincipalIsAWSService" = "false" } }
      },
      {
        Sid       = "DenyReconfigurationByOthers"
        Effect    = "Deny"
        Principal = { AWS = "*" }
        Action = [
          "s3:DeleteBucket", "s3:DeleteBucketPolicy", "s3:PutBucketAcl", "s3:PutBucketLogging", "s3:PutBucketObjectLockConfiguration", "s3:PutBucketOwnershipControls",
          "s3:PutBucketPolicy", "s3:PutBucketPublicAccessBlock", "s3:PutBucketVersioning", "s3:PutEncryptionConfiguration", "s3:PutLifecycleConfiguration", "s3:PutReplicationConfiguration",
        ]
        Resource  = [local.bucket_arn]
        Condition = { ArnNotEquals = { "aws:PrincipalArn" = local.keepers } }
      },
    ] : { for member, value in s : member => value if value != null } if s != null]
  }

  logs_policy = {
    Version = "2012-10-17"
    Statement = [{
      Sid      = "WriteEvents"
      Effect   = "Allow"
      Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
      Resource = ["${local.group_arn}:log-stream:*_CloudTrail_${var.region}*"]
    }]
  }

  logs_trust = {
    Version = "2012-10-17"
    Statement = [{
      Sid       = "TakenByTheTrail"
      Effect    = "Allow"
      Principal = { Service = "cloudtrail.amazonaws.com" }
      Action    = ["sts:AssumeRole"]
      Condition = { StringEquals = { "aws:SourceArn" = local.trail_arn, "aws:SourceAccount" = var.account_id } }
    }]
  }
}

module "policy" {
  source = "../key-policy"

  account_id     = var.account_id
  partition      = var.partition
  regions        = [var.region]
  administrators = var.administrators
  provisioners   = var.provisioners
  users          = var.readers
  use_actions    = ["Decrypt"]
  via_services   = ["s3"]
  service_principals = concat(
    [
      {
        service            = "cloudtrail.amazonaws.com"
        actions            = ["GenerateDataKey"]
        source_account     = false # of an organisation's trail it may be a member's
        source_arns        = [local.trail_arn]
        encryption_context = { "aws:cloudtrail:arn" = "arn:${var.partition}:cloudtrail:*:${var.organization_id == null ? var.account_id : "*"}:trail/${var.name}" }
      },
      {
        service        = "cloudtrail.amazonaws.com"
        actions        = ["DescribeKey"]
        source_account = false
        source_arns    = [local.trail_arn]
      },
    ],
    [for group in var.cloudwatch_logs ? [local.group_arn] : [] : {
      service            = "logs.${var.region}.amazonaws.com"
      actions            = ["Decrypt", "DescribeKey", "Encrypt", "GenerateDataKey", "ReEncryptFrom", "ReEncryptTo"]
      source_account     = false
      encryption_context = { "aws:logs:arn" = group }
    }],
  )
}

resource "aws_kms_key" "trail" {
  description             = "Logs of the trail ${var.name}"
  policy                  = module.policy.json
  enable_key_rotation     = true
  rotation_period_in_days = 90
  deletion_window_in_days = 30
  tags                    = merge(var.tags, { Environment = var.name, Service = "CloudTrail", PCIScope = "true" })
}

resource "aws_kms_alias" "trail" {
  name          = "alias/cloudtrail-${var.name}-cmk"
  target_key_id = aws_kms_key.trail.key_id
}

resource "aws_s3_bucket" "logs" {
  bucket              = var.bucket_name
  object_lock_enabled = true
  force_destroy       = false
  tags                = var.tags
}

resource "aws_s3_bucket_versioning" "logs" {
  bucket = aws_s3_bucket.logs.id
  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_object_lock_configuration" "logs" {
  bucket = aws_s3_bucket.logs.id
  rule {
    default_retention {
      mode = var.lock_mode
      days = var.retention_days
    }
  }
  depends_on = [aws_s3_bucket_versioning.logs]
}

resource "aws_s3_bucket_server_side_encryption_configuration" "logs" {
  bucket = aws_s3_bucket.logs.id
  rule {
    bucket_key_enabled = true
    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = aws_kms_key.trail.arn
    }
  }
}

resource "aws_s3_bucket_public_access_block" "logs" {
  bucket                  = aws_s3_bucket.logs.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "logs" {
  bucket = aws_s3_bucket.logs.id
  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "logs" {
  bucket = aws_s3_bucket.logs.id
  rule {
    id     = "keep"
    status = "Enabled"
    filter {}
    transition {
      days          = var.archive_after_days
      storage_class = "GLACIER_IR"
    }
    expiration {
      days = var.retention_days + 1
    }
    noncurrent_version_expiration {
      noncurrent_days = var.retention_days + 1
    }
    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }
  depends_on = [aws_s3_bucket_versioning.logs]
}

resource "aws_s3_bucket_logging" "logs" {
  count = var.access_log_bucket != null ? 1 : 0

  bucket        = aws_s3_bucket.logs.id
  target_bucket = var.access_log_bucket
  target_prefix = "${var.bucket_name}/"
}

resource "aws_s3_bucket_policy" "logs" {
  bucket     = aws_s3_bucket.logs.id
  policy     = jsonencode(local.bucket_policy)
  depends_on = [aws_s3_bucket_public_access_block.logs]
}

resource "aws_cloudwatch_log_group" "trail" {
  count = var.cloudwatch_logs ? 1 : 0

  name              = local.group
  retention_in_days = var.cloudwatch_retention_days
  kms_key_id        = aws_kms_key.trail.arn
  tags              = var.tags
}

resource "aws_iam_role" "logs" {
  count = var.cloudwatch_logs ? 1 : 0

  name               = "cloudtrail-${var.name}-logs"
  description        = "The trail ${var.name} writes to CloudWatch Logs."
  assume_role_policy = jsonencode(local.logs_trust)
  tags               = var.tags
}

resource "aws_iam_role_policy" "logs" {
  count = var.cloudwatch_logs ? 1 : 0

  name   = "write-events"
  role   = aws_iam_role.logs[0].id
  policy = jsonencode(local.logs_policy)
}

resource "aws_cloudtrail" "this" {
  name                          = var.name
  s3_bucket_name                = aws_s3_bucket.logs.id
  kms_key_id                    = aws_kms_key.trail.arn
  enable_logging                = true
  enable_log_file_validation    = true
  is_multi_region_trail         = true
  is_organization_trail         = var.organization_id != null
  include_global_service_events = true
  cloud_watch_logs_group_arn    = var.cloudwatch_logs ? "${local.group_arn}:*" : null
  cloud_watch_logs_role_arn     = one(aws_iam_role.logs[*].arn)
  tags                          = var.tags

  # All management events: those of KMS must not be left out.
  advanced_event_selector {
    name = "management"
    field_selector {
      field  = "eventCategory"
      equals = ["Management"]
    }
  }

  dynamic "advanced_event_selector" {
    for_each = var.network_activity ? ["kms"] : []
    content {
      name = "kms through VPC endpoints"
      field_selector {
        field  = "eventCategory"
        equals = ["NetworkActivity"]
      }
      field_selector {
        field  = "eventSource"
        equals = ["kms.amazonaws.com"]
      }
    }
  }

  depends_on = [aws_s3_bucket_policy.logs, aws_s3_bucket_object_lock_configuration.logs, aws_cloudwatch_log_group.trail, aws_iam_role_policy.logs]
}
