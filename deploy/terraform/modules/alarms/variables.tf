variable "name" {
  description = "Prefix of the names of topic, rules and alarms."
  type        = string
  default     = "kms-cde"
  nullable    = false
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,30}$", var.name))
    error_message = "name must be 3 to 31 lower-case letters, digits and hyphens, a letter first."
  }
}

variable "account_id" {
  description = "The 12 digits of the account."
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
  description = "The Region whose events the rules see: that of the provider. Use the module in each Region with keys."
  type        = string
  nullable    = false
}

variable "administrators" {
  description = "ARNs of roles and users who administer the topic's key, with a second factor."
  type        = list(string)
  nullable    = false
}

variable "provisioners" {
  description = "ARNs of roles by which Terraform itself runs."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "subscriptions" {
  description = "Who is told, by a name for each: protocol https, email, sqs or lambda, and the endpoint. Mail and HTTPS subscriptions must be confirmed by their owner."
  type = map(object({
    protocol = string
    endpoint = string
  }))
  default  = {}
  nullable = false
  validation {
    condition     = alltrue([for s in var.subscriptions : contains(["email", "email-json", "https", "lambda", "sqs"], s.protocol)])
    error_message = "protocol of a subscription must be email, email-json, https, lambda or sqs: http is not encrypted."
  }
}

variable "log_group_name" {
  description = "Log group of the trail (output of the module cloudtrail). Null: event rules only, without metrics and without the alarms on volume."
  type        = string
  default     = null
}

variable "has_log_group" {
  description = "Whether log_group_name is given: say so where it is known only after apply."
  type        = bool
  default     = true
  nullable    = false
  validation {
    condition     = !var.has_log_group || var.log_group_name != null
    error_message = "has_log_group needs log_group_name; set it to false to do without metric alarms."
  }
}

variable "unauthorized_threshold" {
  description = "How many denied calls in five minutes raise the metric alarm."
  type        = number
  default     = 3
  nullable    = false
  validation {
    condition     = var.unauthorized_threshold >= 1
    error_message = "unauthorized_threshold must be 1 at least."
  }
}

variable "failed_decrypt_threshold" {
  description = "How many failed decryptions in five minutes raise the metric alarm."
  type        = number
  default     = 5
  nullable    = false
  validation {
    condition     = var.failed_decrypt_threshold >= 1
    error_message = "failed_decrypt_threshold must be 1 at least."
  }
}

variable "volume_threshold" {
  description = "How many uses of keys in five minutes raise the alarm, whatever is usual."
  type        = number
  default     = 10000
  nullable    = false
  validation {
    condition     = var.volume_threshold >= 1
    error_message = "volume_threshold must be 1 at least."
  }
}

variable "volume_band" {
  description = "How many standard deviations above what is usual at this hour and day the number of uses may be: 1 to 10."
  type        = number
  default     = 3
  nullable    = false
  validation {
    condition     = var.volume_band >= 1 && var.volume_band <= 10
    error_message = "volume_band must be 1 to 10."
  }
}

variable "log_bucket_name" {
  description = "Bucket of the trail: changes of its policy, life cycle or versioning raise an alarm. Null: not watched."
  type        = string
  default     = null
}

variable "tags" {
  description = "Tags."
  type        = map(string)
  default     = {}
  nullable    = false
}
