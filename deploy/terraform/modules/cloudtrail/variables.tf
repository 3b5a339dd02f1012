variable "name" {
  description = "Name of the trail."
  type        = string
  default     = "cde"
  nullable    = false
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,40}$", var.name))
    error_message = "name must be 3 to 41 lower-case letters, digits and hyphens, a letter first."
  }
}

variable "account_id" {
  description = "The 12 digits of the account of trail and bucket: the logging account, or the organisation's management account."
  type        = string
  nullable    = false
  validation {
    condition     = can(regex("^[0-9]{12}$", var.account_id))
    error_message = "account_id must be 12 digits."
  }
}

variable "partition" {
  description = "The partition of the account."
  type        = string
  default     = "aws"
  nullable    = false
}

variable "region" {
  description = "Home Region of the trail, which records all Regions."
  type        = string
  nullable    = false
}

variable "organization_id" {
  description = "The organisation (o-…) whose accounts are all recorded. Null: this account alone."
  type        = string
  default     = null
  validation {
    condition     = var.organization_id == null ? true : can(regex("^o-[a-z0-9]{10,32}$", var.organization_id))
    error_message = "organization_id must be as o-abcdefghij."
  }
}

variable "bucket_name" {
  description = "Name of the bucket of the logs."
  type        = string
  nullable    = false
  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.bucket_name))
    error_message = "bucket_name must be 3 to 63 lower-case letters, digits and hyphens."
  }
}

variable "retention_days" {
  description = "How long nobody can delete or change a log file, in days: 1096 (three years) by default, 366 at least. PCI DSS 10.5.1 asks for twelve months."
  type        = number
  default     = 1096
  nullable    = false
  validation {
    condition     = var.retention_days >= 366 && var.retention_days <= 36500
    error_message = "retention_days must be 366 to 36500."
  }
}

variable "lock_mode" {
  description = "COMPLIANCE: nobody, not even the root user, shortens the retention. GOVERNANCE: for trying out."
  type        = string
  default     = "COMPLIANCE"
  nullable    = false
  validation {
    condition     = contains(["COMPLIANCE", "GOVERNANCE"], var.lock_mode)
    error_message = "lock_mode must be COMPLIANCE or GOVERNANCE."
  }
}

variable "archive_after_days" {
  description = "After how many days log files move to slower, cheaper storage: 90 at least, since three months must be at hand (PCI DSS 10.5.1)."
  type        = number
  default     = 120
  nullable    = false
  validation {
    condition     = var.archive_after_days >= 90 && var.archive_after_days < var.retention_days
    error_message = "archive_after_days must be 90 at least, and less than retention_days."
  }
}

variable "readers" {
  description = "ARNs of roles that read the logs: the SIEM's, the auditors'. They cannot write."
  type        = list(string)
  default     = []
  nullable    = false
  validation {
    condition     = alltrue([for r in var.readers : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:(role|user)/[A-Za-z0-9+=,.@_/-]+$", r))])
    error_message = "readers must be ARNs of roles or users, without wildcards."
  }
}

variable "administrators" {
  description = "ARNs of roles and users who administer the trail's key and bucket, with a second factor. They are not readers."
  type        = list(string)
  nullable    = false
}

variable "provisioners" {
  description = "ARNs of roles by which Terraform itself runs."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "access_log_bucket" {
  description = "A bucket that gets the access log of the logs' bucket (PCI DSS 10.2.1.3). Null: none, then record access otherwise."
  type        = string
  default     = null
}

variable "cloudwatch_logs" {
  description = "Whether events also go to CloudWatch Logs, which the metric alarms of the module alarms need."
  type        = bool
  default     = true
  nullable    = false
}

variable "cloudwatch_retention_days" {
  description = "How long CloudWatch Logs keeps events, in days, of those periods that it knows: 90 at least."
  type        = number
  default     = 365
  nullable    = false
  validation {
    condition     = contains([90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.cloudwatch_retention_days)
    error_message = "cloudwatch_retention_days must be a period of CloudWatch Logs of 90 days at least, such as 365."
  }
}

variable "network_activity" {
  description = "Whether calls of KMS through VPC endpoints are recorded as such too: those that an endpoint's policy denied appear nowhere else. Each call is then recorded twice, and paid for."
  type        = bool
  default     = false
  nullable    = false
}

variable "tags" {
  description = "Tags."
  type        = map(string)
  default     = {}
  nullable    = false
}
