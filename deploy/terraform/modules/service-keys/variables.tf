variable "account_id" {
  description = "The 12 digits of the account that owns the keys."
  type        = string
  nullable    = false
}

variable "partition" {
  description = "The partition of the account."
  type        = string
  default     = "aws"
  nullable    = false
}

variable "region" {
  description = "The Region of the keys: that of the provider."
  type        = string
  nullable    = false
}

variable "replica_regions" {
  description = "Regions in which keys with multi_region have replicas (module replica): their policies name the services there too."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "environment" {
  description = "The environment, in names and in the tag Environment: prod, cde, dev and so on."
  type        = string
  nullable    = false
  validation {
    condition     = can(regex("^[a-z][a-z0-9]{1,15}$", var.environment))
    error_message = "environment must be 2 to 16 lower-case letters and digits, a letter first."
  }
}

variable "keys" {
  description = "The keys by name. kind is what a key is for, by default its name: rds, ebs, s3, secrets, sns, sqs, vault, vault-mac and files have defaults that fit; any other is a key for direct use. What is given goes before the default; rotation_period_in_days = 0 is no rotation."
  type = map(object({
    users                   = list(string)
    kind                    = optional(string)
    description             = optional(string)
    pci_scope               = optional(bool)
    via_services            = optional(list(string))
    use_actions             = optional(list(string))
    encryption_context      = optional(map(list(string)), {})
    encryption_context_keys = optional(list(string))
    service_principals = optional(list(object({
      service            = string
      actions            = list(string)
      source_account     = optional(bool, true)
      source_arns        = optional(list(string), [])
      encryption_context = optional(map(string), {})
    })), [])
    rotation_period_in_days    = optional(number)
    deletion_window_in_days    = optional(number)
    multi_region               = optional(bool, false)
    key_spec                   = optional(string)
    custom_key_store_id        = optional(string)
    shared_account_ids         = optional(list(string), [])
    additional_statements_json = optional(string, "[]")
    tags                       = optional(map(string), {})
  }))
  nullable = false
  validation {
    condition     = length(var.keys) > 0 && alltrue([for name, k in var.keys : can(regex("^[a-z][a-z0-9-]{0,31}$", name))])
    error_message = "keys must have names of lower-case letters, digits and hyphens, such as rds."
  }
  validation {
    condition     = alltrue([for k in var.keys : k.rotation_period_in_days == null ? true : k.rotation_period_in_days == 0 || (k.rotation_period_in_days >= 90 && k.rotation_period_in_days <= 2560)])
    error_message = "rotation_period_in_days of a key must be 90 to 2560, or 0 for none."
  }
  validation {
    condition     = alltrue([for k in var.keys : k.deletion_window_in_days == null ? true : k.deletion_window_in_days >= 7 && k.deletion_window_in_days <= 30])
    error_message = "deletion_window_in_days of a key must be 7 to 30."
  }
  validation {
    condition     = alltrue([for k in var.keys : k.key_spec == null ? true : contains(["SYMMETRIC_DEFAULT", "HMAC_256", "HMAC_384", "HMAC_512"], k.key_spec)])
    error_message = "key_spec must be SYMMETRIC_DEFAULT or an HMAC spec."
  }
  validation {
    condition     = alltrue([for k in var.keys : !(k.custom_key_store_id != null && k.multi_region)])
    error_message = "A key in a custom key store cannot be a multi-Region key."
  }
}

variable "administrators" {
  description = "ARNs of roles and users who administer all these keys, with a second factor."
  type        = list(string)
  nullable    = false
}

variable "provisioners" {
  description = "ARNs of roles by which Terraform itself runs."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "rotation_period_in_days" {
  description = "How often AWS makes new key material, in days: 90 to 2560."
  type        = number
  default     = 90
  nullable    = false
  validation {
    condition     = var.rotation_period_in_days >= 90 && var.rotation_period_in_days <= 2560
    error_message = "rotation_period_in_days must be 90 to 2560."
  }
}

variable "max_rotation_period_in_days" {
  description = "The longest rotation period that the keys' policies allow anybody to set, in days: the cryptoperiod."
  type        = number
  default     = 365
  nullable    = false
  validation {
    condition     = var.max_rotation_period_in_days >= var.rotation_period_in_days
    error_message = "max_rotation_period_in_days must not be shorter than rotation_period_in_days."
  }
}

variable "deletion_window_in_days" {
  description = "How long a key that was scheduled for deletion can still be saved, in days: 7 to 30."
  type        = number
  default     = 30
  nullable    = false
  validation {
    condition     = var.deletion_window_in_days >= 7 && var.deletion_window_in_days <= 30
    error_message = "deletion_window_in_days must be 7 to 30."
  }
}

variable "vpc_endpoint_ids" {
  description = "VPC endpoints through which the keys for direct use may be used."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "allowed_cidrs" {
  description = "Networks from which the keys for direct use may be used, besides vpc_endpoint_ids."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "administrator_cidrs" {
  description = "Networks from which administrators and provisioners may act. Empty: from everywhere."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "require_mfa" {
  description = "See the module key-policy."
  type        = bool
  default     = true
  nullable    = false
}

variable "require_tls" {
  description = "See the module key-policy."
  type        = bool
  default     = true
  nullable    = false
}

variable "tags" {
  description = "More tags, for all keys. Environment, Service and PCIScope are always set."
  type        = map(string)
  default     = {}
  nullable    = false
  validation {
    condition     = length(setintersection(keys(var.tags), ["Environment", "Service", "PCIScope"])) == 0
    error_message = "tags must not set Environment, Service or PCIScope: they follow from the key."
  }
}
