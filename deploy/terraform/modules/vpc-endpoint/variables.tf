variable "name" {
  description = "Name of the endpoint and its security group."
  type        = string
  default     = "kms"
  nullable    = false
}

variable "account_id" {
  description = "The 12 digits of the account whose people and keys the endpoint is for."
  type        = string
  nullable    = false
  validation {
    condition     = can(regex("^[0-9]{12}$", var.account_id))
    error_message = "account_id must be 12 digits."
  }
}

variable "region" {
  description = "The Region of the endpoint: that of the provider."
  type        = string
  nullable    = false
  validation {
    condition     = can(regex("^([a-z]+-){2,3}[0-9]+$", var.region))
    error_message = "region must be as us-east-1."
  }
}

variable "vpc_id" {
  description = "The VPC of the vault."
  type        = string
  nullable    = false
  validation {
    condition     = startswith(var.vpc_id, "vpc-")
    error_message = "vpc_id must be as vpc-0123456789abcdef0."
  }
}

variable "subnet_ids" {
  description = "Subnets of the endpoint's interfaces: one in each of two availability zones at least."
  type        = list(string)
  nullable    = false
  validation {
    condition     = length(var.subnet_ids) >= 2
    error_message = "subnet_ids must be two at least, in different availability zones: else one zone's failure stops the vault."
  }
}

variable "client_security_group_ids" {
  description = "Security groups of those who may reach the endpoint on port 443, by a name for each."
  type        = map(string)
  nullable    = false
  validation {
    condition     = length(var.client_security_group_ids) > 0
    error_message = "client_security_group_ids must name one at least."
  }
}

variable "principals" {
  description = "ARNs of roles and users who may call KMS through the endpoint. Key policies decide what they may do."
  type        = list(string)
  nullable    = false
  validation {
    condition     = length(var.principals) > 0 && alltrue([for p in var.principals : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:(role|user)/[A-Za-z0-9+=,.@_/-]+$", p))])
    error_message = "principals must be ARNs of roles or users, without wildcards."
  }
}

variable "key_account_ids" {
  description = "Accounts whose keys may be used through the endpoint, besides account_id."
  type        = list(string)
  default     = []
  nullable    = false
  validation {
    condition     = alltrue([for a in var.key_account_ids : can(regex("^[0-9]{12}$", a))])
    error_message = "key_account_ids must be 12 digits each."
  }
}

variable "fips" {
  description = "Whether the endpoint is that of the FIPS 140 modules: kms.fips = true in the vault's configuration."
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
