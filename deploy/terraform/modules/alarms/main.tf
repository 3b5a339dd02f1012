# Alarms on what happens to keys: unauthorized attempts, deletion attempts, abnormal volume,
# failed decryptions; besides, changes of who may do what, and of the log itself. Event
# rules tell of each case within seconds; metric alarms count, and notice silence.

locals {
  topic_arn = "arn:${var.partition}:sns:${var.region}:${var.account_id}:${var.name}"
  kms       = { source = ["aws.kms"], "detail-type" = ["AWS API Call via CloudTrail"] }

  # all: also events that change nothing, which rules else do not see: Decrypt is one.
  rules = { for name, r in {
    unauthorized = {
      all         = true
      description = "KMS denied a call"
      pattern = merge(local.kms, { detail = {
        eventSource = ["kms.amazonaws.com"]
        errorCode   = ["AccessDenied", "AccessDeniedException", "VpceAccessDenied", { prefix = "Client.Unauthorized" }]
      } })
    }
    deletion = {
      all         = false
      description = "Somebody tried to delete, disable or weaken a key or its material"
      pattern = merge(local.kms, { detail = {
        eventSource = ["kms.amazonaws.com"]
        eventName = [
          "ScheduleKeyDeletion", "DisableKey", "DeleteImportedKeyMaterial", "DisableKeyRotation", "DeleteAlias", "DeleteCustomKeyStore", "DisconnectCustomKeyStore",
        ]
      } })
    }
    failed-decrypt = {
      all         = true
      description = "A ciphertext did not open: changed, moved, or of another key"
      pattern = merge(local.kms, { detail = {
        eventSource = ["kms.amazonaws.com"]
        eventName   = ["Decrypt", "ReEncrypt"]
        errorCode   = ["InvalidCiphertextException", "IncorrectKeyException", "DisabledException", "KMSInvalidStateException", "NotFoundException"]
      } })
    }
    control = {
      all         = false
      description = "Who may use a key, or which key an alias means, has changed"
      pattern = merge(local.kms, { detail = {
        eventSource = ["kms.amazonaws.com"]
        eventName   = ["PutKeyPolicy", "UpdateAlias", "ReplicateKey", "UpdatePrimaryRegion", "ImportKeyMaterial", "UpdateCustomKeyStore"]
      } })
    }
    root = {
      all         = true
      description = "The root user called KMS"
      pattern = merge(local.kms, { detail = {
        eventSource  = ["kms.amazonaws.com"]
        userIdentity = { type = ["Root"] }
      } })
    }
    trail = {
      all         = false
      description = "Somebody stopped, deleted or changed a trail"
      pattern = {
        source        = ["aws.cloudtrail"]
        "detail-type" = ["AWS API Call via CloudTrail"]
        detail = {
          eventSource = ["cloudtrail.amazonaws.com"]
          eventName   = ["StopLogging", "DeleteTrail", "UpdateTrail", "PutEventSelectors"]
        }
      }
    }
    log-bucket = var.log_bucket_name == null ? null : {
      all         = false
      description = "Somebody changed how the bucket of the logs is protected"
      pattern = {
        source        = ["aws.s3"]
        "detail-type" = ["AWS API Call via CloudTrail"]
        detail = {
          eventSource = ["s3.amazonaws.com"]
          eventName = [
            "DeleteBucket", "DeleteBucketPolicy", "DeleteBucketLifecycle", "DeleteBucketEncryption", "PutBucketPolicy", "PutBucketLifecycle", "PutBucketVersioning",
            "PutBucketObjectLockConfiguration", "PutBucketEncryption", "PutBucketPublicAccessBlock", "PutBucketLogging",
          ]
          requestParameters = { bucketName = [var.log_bucket_name] }
        }
      }
    }
  } : name => r if r != null }

  of_kms = "($.eventSource = \"kms.amazonaws.com\")"
  filters = {
    UnauthorizedAttempts = "{ ${local.of_kms} && (($.errorCode = \"AccessDenied*\") || ($.errorCode = \"*Unauthorized*\") || ($.errorCode = \"VpceAccessDenied\")) }"
    DeletionAttempts     = "{ ${local.of_kms} && (($.eventName = \"ScheduleKeyDeletion\") || ($.eventName = \"DisableKey\") || ($.eventName = \"DeleteImportedKeyMaterial\")) }"
    FailedDecrypts       = "{ ${local.of_kms} && (($.eventName = \"Decrypt\") || ($.eventName = \"ReEncrypt\")) && ($.errorCode = \"*Exception\") && ($.errorCode != \"ThrottlingException\") }"
    Uses                 = "{ ${local.of_kms} && (($.eventName = \"Decrypt\") || ($.eventName = \"Encrypt\") || ($.eventName = \"ReEncrypt\") || ($.eventName = \"GenerateDataKey*\") || ($.eventName = \"GenerateMac\")) }"
  }
  metrics   = var.has_log_group ? local.filters : {}
  namespace = "Cardea/${var.name}"

  alarms = {
    unauthorized   = { metric = "UnauthorizedAttempts", threshold = var.unauthorized_threshold, description = "Unauthorized attempts to use or administer keys" }
    deletion       = { metric = "DeletionAttempts", threshold = 1, description = "Attempts to delete or disable keys" }
    failed-decrypt = { metric = "FailedDecrypts", threshold = var.failed_decrypt_threshold, description = "Failed decryptions" }
    volume         = { metric = "Uses", threshold = var.volume_threshold, description = "More uses of keys than there may ever be" }
  }

  topic_policy = {
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "RulesPublish"
        Effect    = "Allow"
        Principal = { Service = "events.amazonaws.com" }
        Action    = ["sns:Publish"]
        Resource  = [local.topic_arn]
        Condition = { ArnEquals = { "aws:SourceArn" = [for name, r in local.rules : "arn:${var.partition}:events:${var.region}:${var.account_id}:rule/${var.name}-${name}"] } }
      },
      {
        Sid       = "AlarmsPublish"
        Effect    = "Allow"
        Principal = { Service = "cloudwatch.amazonaws.com" }
        Action    = ["sns:Publish"]
        Resource  = [local.topic_arn]
        Condition = {
          StringEquals = { "aws:SourceAccount" = var.account_id }
          ArnLike      = { "aws:SourceArn" = "arn:${var.partition}:cloudwatch:${var.region}:${var.account_id}:alarm:${var.name}-*" }
        }
      },
      {
        Sid       = "DenyWithoutTLS"
        Effect    = "Deny"
        Principal = { AWS = "*" }
        Action    = ["sns:Publish"]
        Resource  = [local.topic_arn]
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
    ]
  }
}

module "policy" {
  source = "../key-policy"

  account_id     = var.account_id
  partition      = var.partition
  regions        = [var.region]
  administrators = var.administrators
  provisioners   = var.provisioners
  service_principals = [for s in ["cloudwatch.amazonaws.com", "events.amazonaws.com"] : {
    service            = s
    actions            = ["Decrypt", "GenerateDataKey"]
    source_account     = false # SNS does not pass it on
    encryption_context = { "aws:sns:topicArn" = local.topic_arn }
  }]
}

resource "aws_kms_key" "topic" {
  description             = "Alarms of ${var.name}"
  policy                  = module.policy.json
  enable_key_rotation     = true
  rotation_period_in_days = 90
  deletion_window_in_days = 30
  tags                    = merge(var.tags, { Environment = var.name, Service = "SNS", PCIScope = "true" })
}

resource "aws_kms_alias" "topic" {
  name          = "alias/sns-${var.name}-cmk"
  target_key_id = aws_kms_key.topic.key_id
}

resource "aws_sns_topic" "alarms" {
  name              = var.name
  kms_master_key_id = aws_kms_key.topic.arn
  tags              = var.tags
}

resource "aws_sns_topic_policy" "alarms" {
  arn    = aws_sns_topic.alarms.arn
  policy = jsonencode(local.topic_policy)
}

resource "aws_sns_topic_subscription" "alarms" {
  for_each = var.subscriptions

  topic_arn = aws_sns_topic.alarms.arn
  protocol  = each.value.protocol
  endpoint  = each.value.endpoint
}

resource "aws_cloudwatch_event_rule" "this" {
  for_each = local.rules

  name          = "${var.name}-${each.key}"
  description   = each.value.description
  state         = each.value.all ? "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS" : "ENABLED"
  event_pattern = jsonencode(each.value.pattern)
  tags          = var.tags
}

resource "aws_cloudwatch_event_target" "this" {
  for_each = local.rules

  rule = aws_cloudwatch_event_rule.this[each.key].name
  arn  = aws_sns_topic.alarms.arn
}

resource "aws_cloudwatch_log_metric_filter" "this" {
  for_each = local.metrics

  name           = "${var.name}-${each.key}"
  log_group_name = var.log_group_name
  pattern        = each.value
  metric_transformation {
    namespace     = local.namespace
    name          = each.key
    value         = "1"
    default_value = "0"
  }
}

resource "aws_cloudwatch_metric_alarm" "count" {
  for_each = var.has_log_group ? local.alarms : {}

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.description
  namespace           = local.namespace
  metric_name         = each.value.metric
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 1
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = each.value.threshold
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
  tags                = var.tags

  depends_on = [aws_cloudwatch_log_metric_filter.this]
}

resource "aws_cloudwatch_metric_alarm" "abnormal_volume" {
  count = var.has_log_group ? 1 : 0

  alarm_name          = "${var.name}-abnormal-volume"
  alarm_description   = "More uses of keys than is usual at this hour"
  comparison_operator = "GreaterThanUpperThreshold"
  evaluation_periods  = 2
  threshold_metric_id = "usual"
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
  tags                = var.tags

  metric_query {
    id          = "usual"
    expression  = "ANOMALY_DETECTION_BAND(uses, ${var.volume_band})"
    label       = "usual"
    return_data = true
  }
  metric_query {
    id          = "uses"
    return_data = true
    metric {
      namespace   = local.namespace
      metric_name = "Uses"
      stat        = "Sum"
      period      = 300
    }
  }

  depends_on = [aws_cloudwatch_log_metric_filter.this]
}

# A log that is silent is a control that has failed (PCI DSS 10.7.2).
resource "aws_cloudwatch_metric_alarm" "silence" {
  count = var.has_log_group ? 1 : 0

  alarm_name          = "${var.name}-silence"
  alarm_description   = "No events have come for an hour: has the trail been stopped?"
  namespace           = "AWS/Logs"
  metric_name         = "IncomingLogEvents"
  dimensions          = { LogGroupName = var.log_group_name }
  statistic           = "Sum"
  period              = 3600
  evaluation_periods  = 1
  comparison_operator = "LessThanThreshold"
  threshold           = 1
  treat_missing_data  = "breaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
  tags                = var.tags
}
