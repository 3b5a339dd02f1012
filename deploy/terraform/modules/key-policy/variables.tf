variable "account_id" {
  description = "The 12 digits of the account that owns the key."
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
  validation {
    condition     = contains(["aws", "aws-us-gov", "aws-cn"], var.partition)
    error_message = "partition must be aws, aws-us-gov or aws-cn."
  }
}

variable "regions" {
  description = "Regions of the key: its own first, then those of its replicas. kms:ViaService names a service in each."
  type        = list(string)
  nullable    = false
  validation {
    condition     = length(var.regions) > 0 && alltrue([for r in var.regions : can(regex("^([a-z]+-){2,3}[0-9]+$", r))])
    error_message = "regions must be one or more names such as us-east-1."
  }
}

variable "administrators" {
  description = "ARNs of roles and users who administer the key, with a second factor. They can never use it."
  type        = list(string)
  nullable    = false
  validation {
    condition     = length(var.administrators) > 0 && alltrue([for a in var.administrators : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:(role|user)/[A-Za-z0-9+=,.@_/-]+$", a))])
    error_message = "administrators must be one or more ARNs of roles or users, without wildcards."
  }
}

variable "provisioners" {
  description = "ARNs of roles by which Terraform itself runs, without a second factor: they create and configure, but neither disable nor delete nor use."
  type        = list(string)
  default     = []
  nullable    = false
  validation {
    condition     = alltrue([for a in var.provisioners : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:(role|user)/[A-Za-z0-9+=,.@_/-]+$", a))])
    error_message = "provisioners must be ARNs of roles or users, without wildcards."
  }
}

variable "users" {
  description = "ARNs of roles and users of the account who use the key. They can never administer it."
  type        = list(string)
  default     = []
  nullable    = false
  validation {
    condition     = alltrue([for a in var.users : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:(role|user)/[A-Za-z0-9+=,.@_/-]+$", a))])
    error_message = "users must be ARNs of roles or users, without wildcards."
  }
  validation {
    condition     = length(setintersection(var.users, concat(var.administrators, var.provisioners))) == 0
    error_message = "users must not be administrators or provisioners: those who administer a key do not use it (PCI DSS 7.2.2)."
  }
}

variable "users_need_identity_policy" {
  description = "Whether users need an identity policy of their own that allows the use as well. They are then named in a condition, and need not exist before the key."
  type        = bool
  default     = false
  nullable    = false
}

variable "use_actions" {
  description = "What users may do with the key, without the prefix kms:."
  type        = list(string)
  default     = ["Encrypt", "Decrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "ReEncryptFrom", "ReEncryptTo"]
  nullable    = false
  validation {
    condition = length(setsubtract(var.use_actions, [
      "Encrypt", "Decrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext", "ReEncryptFrom", "ReEncryptTo",
      "GenerateMac", "VerifyMac", "Sign", "Verify", "GetPublicKey", "DeriveSharedSecret",
    ])) == 0
    error_message = "use_actions must be cryptographic operations of KMS, each by its full name: no wildcards, nothing that administers."
  }
}

variable "via_services" {
  description = "AWS services on whose behalf alone users use the key: rds, ec2, s3, secretsmanager … Empty: users call KMS themselves."
  type        = list(string)
  default     = []
  nullable    = false
  validation {
    condition     = alltrue([for s in var.via_services : can(regex("^[a-z0-9-]+$", s))])
    error_message = "via_services must be names of services such as rds or secretsmanager, without Region and domain."
  }
}

variable "grants_for_aws_resources" {
  description = "Whether users may let the services in via_services make grants for their resources (kms:GrantIsForAWSResource): RDS and EBS need it."
  type        = bool
  default     = false
  nullable    = false
  validation {
    condition     = !var.grants_for_aws_resources || length(var.via_services) > 0
    error_message = "grants_for_aws_resources needs via_services: the services that may make grants."
  }
}

variable "encryption_context" {
  description = "Pairs that each use must have in its encryption context: the name, and the values that are allowed."
  type        = map(list(string))
  default     = {}
  nullable    = false
  validation {
    condition     = alltrue([for k, v in var.encryption_context : length(v) > 0 && alltrue([for s in v : !can(regex("[*?$]", s))])])
    error_message = "encryption_context must list at least one value a name, without wildcards or variables."
  }
}

variable "encryption_context_keys" {
  description = "Names that each use must have in its encryption context, with whatever value."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "vpc_endpoint_ids" {
  description = "VPC endpoints through which people and programs may use the key."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "allowed_cidrs" {
  description = "Networks from which people and programs may use the key, besides vpc_endpoint_ids."
  type        = list(string)
  default     = []
  nullable    = false
  validation {
    condition     = alltrue([for c in var.allowed_cidrs : can(cidrnetmask(c)) && !endswith(c, "/0")])
    error_message = "allowed_cidrs must be IPv4 networks such as 10.0.0.0/8, and not all of them."
  }
  validation {
    condition     = length(var.via_services) > 0 || length(var.users) == 0 || length(var.vpc_endpoint_ids) + length(var.allowed_cidrs) > 0
    error_message = "users who call KMS themselves need vpc_endpoint_ids or allowed_cidrs: say from where."
  }
}

variable "administrator_cidrs" {
  description = "Networks from which administrators and provisioners may act. Empty: from everywhere."
  type        = list(string)
  default     = []
  nullable    = false
  validation {
    condition     = alltrue([for c in var.administrator_cidrs : can(cidrnetmask(c)) && !endswith(c, "/0")])
    error_message = "administrator_cidrs must be IPv4 networks such as 10.0.0.0/8, and not all of them."
  }
}

variable "require_mfa" {
  description = "Whether administration asks for a second factor in the session (aws:MultiFactorAuthPresent). Set it to false only if an identity provider asks for it, whose sessions never show one."
  type        = bool
  default     = true
  nullable    = false
}

variable "mfa_max_age_seconds" {
  description = "How old the second factor of an administrator may be, in seconds: 900 to 43200."
  type        = number
  default     = 3600
  nullable    = false
  validation {
    condition     = var.mfa_max_age_seconds >= 900 && var.mfa_max_age_seconds <= 43200
    error_message = "mfa_max_age_seconds must be 900 to 43200."
  }
}

variable "require_tls" {
  description = "Whether calls without TLS are denied. AWS has no others; a key service of your own on loopback may."
  type        = bool
  default     = true
  nullable    = false
}

variable "deletion_window_in_days" {
  description = "The shortest waiting period with which the key may be scheduled for deletion, in days: 7 to 30."
  type        = number
  default     = 30
  nullable    = false
  validation {
    condition     = var.deletion_window_in_days >= 7 && var.deletion_window_in_days <= 30
    error_message = "deletion_window_in_days must be 7 to 30."
  }
}

variable "max_rotation_period_in_days" {
  description = "The longest rotation period that may be set: the key's cryptoperiod, in days (90 to 2560)."
  type        = number
  default     = 365
  nullable    = false
  validation {
    condition     = var.max_rotation_period_in_days >= 90 && var.max_rotation_period_in_days <= 2560
    error_message = "max_rotation_period_in_days must be 90 to 2560."
  }
}

variable "root_recovery" {
  description = "Whether the account's root user, with a second factor, may put a new policy: the way back if all administrators are gone. It gives IAM policies no say."
  type        = bool
  default     = true
  nullable    = false
}

variable "service_principals" {
  description = "AWS services that use the key for themselves, such as cloudtrail.amazonaws.com: what they may do, for which resources of this account (source_account = false where a service does not tell), with which encryption context (values may have *)."
  type = list(object({
    service            = string
    actions            = list(string)
    source_account     = optional(bool, true)
    source_arns        = optional(list(string), [])
    encryption_context = optional(map(string), {})
  }))
  default  = []
  nullable = false
  validation {
    condition     = alltrue([for p in var.service_principals : can(regex("^[a-z0-9.-]+\\.amazonaws\\.com(\\.cn)?$", p.service)) && alltrue([for a in p.actions : can(regex("^[A-Za-z]+$", a))])])
    error_message = "service_principals must be names such as cloudtrail.amazonaws.com, with actions by their full names without kms:."
  }
  validation {
    condition     = alltrue([for p in var.service_principals : p.source_account || length(p.source_arns) + length(p.encryption_context) > 0])
    error_message = "service_principals without source_account need source_arns or encryption_context: else the service could be made to use the key for anybody."
  }
}

variable "shared_account_ids" {
  description = "Other accounts that additional_statements_json lets in. All others are denied."
  type        = list(string)
  default     = []
  nullable    = false
  validation {
    condition     = alltrue([for a in var.shared_account_ids : can(regex("^[0-9]{12}$", a))])
    error_message = "shared_account_ids must be 12 digits each."
  }
}

variable "additional_statements_json" {
  description = "More statements, a JSON list: those of the module cross-account."
  type        = string
  default     = "[]"
  nullable    = false
  validation {
    condition     = can([for s in jsondecode(var.additional_statements_json) : s.Effect])
    error_message = "additional_statements_json must be a JSON list of statements."
  }
}
