variable "name" {
  description = "Name of the role and of its policy."
  type        = string
  default     = "cardea-vault"
  nullable    = false
  validation {
    condition     = can(regex("^[A-Za-z0-9+=,.@_-]{1,64}$", var.name))
    error_message = "name must be 1 to 64 letters, digits and +=,.@_-."
  }
}

variable "account_id" {
  description = "The 12 digits of the vault's account."
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

variable "tenants" {
  description = "The vault's tenants by name, as in its configuration: the mode, and the keys (kms.key_id, kms.mac_key_id, kms.previous_key_ids, replicas). oversize_envelope is kms.oversize = \"envelope\"; reencrypt lets the vault move what an earlier key sealed to the present one inside KMS."
  type = map(object({
    mode              = optional(string, "aws_kms_envelope")
    key_arn           = string
    replica_key_arns  = optional(list(string), [])
    previous_key_arns = optional(list(string), [])
    mac_key_arn       = optional(string)
    oversize_envelope = optional(bool, false)
    reencrypt         = optional(bool, false)
  }))
  nullable = false
  validation {
    condition     = length(var.tenants) > 0 && alltrue([for name, t in var.tenants : !can(regex("[*?$]", name))])
    error_message = "tenants must not be empty, and their names have no wildcards or variables."
  }
  validation {
    condition     = alltrue([for t in var.tenants : contains(["aws_kms", "aws_kms_envelope"], t.mode)])
    error_message = "mode of a tenant must be aws_kms or aws_kms_envelope: with the others the vault asks no KMS."
  }
  validation {
    condition     = alltrue([for t in var.tenants : t.mode == "aws_kms" || (t.mac_key_arn == null && !t.oversize_envelope)])
    error_message = "mac_key_arn and oversize_envelope are for the mode aws_kms."
  }
  validation {
    condition     = alltrue(flatten([for t in var.tenants : [for a in concat([t.key_arn], t.replica_key_arns, t.previous_key_arns, compact([t.mac_key_arn])) : can(regex("^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$", a))]]))
    error_message = "Keys of a tenant must be key ARNs: not aliases, which may come to mean another key, and no wildcards."
  }
}

variable "trusted_services" {
  description = "AWS services on which the vault runs: ec2.amazonaws.com, ecs-tasks.amazonaws.com, pods.eks.amazonaws.com."
  type        = list(string)
  default     = []
  nullable    = false
  validation {
    condition     = alltrue([for s in var.trusted_services : contains(["ec2.amazonaws.com", "ecs-tasks.amazonaws.com", "pods.eks.amazonaws.com"], s)])
    error_message = "trusted_services must be ec2.amazonaws.com, ecs-tasks.amazonaws.com or pods.eks.amazonaws.com."
  }
  validation {
    condition     = length(var.trusted_services) > 0 || var.oidc != null
    error_message = "Give trusted_services or oidc: else nobody can take the role."
  }
}

variable "oidc" {
  description = "An identity provider whose tokens for one subject may take the role, such as a Kubernetes service account: ARN of the provider, its issuer without https://, the subject."
  type = object({
    provider_arn = string
    issuer       = string
    subject      = string
    audience     = optional(string, "sts.amazonaws.com")
  })
  default = null
  validation {
    condition     = var.oidc == null ? true : !can(regex("[*?]", "${var.oidc.subject}${var.oidc.audience}")) && !startswith(var.oidc.issuer, "https://")
    error_message = "oidc needs one subject without wildcards, and the issuer without https://."
  }
}

variable "vpc_endpoint_ids" {
  description = "VPC endpoints through which alone the vault calls KMS. Empty: the key policies decide."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "max_session_seconds" {
  description = "How long credentials of the role last, in seconds: 3600 to 43200."
  type        = number
  default     = 3600
  nullable    = false
  validation {
    condition     = var.max_session_seconds >= 3600 && var.max_session_seconds <= 43200
    error_message = "max_session_seconds must be 3600 to 43200."
  }
}

variable "instance_profile" {
  description = "Whether to make an instance profile of the same name, for EC2."
  type        = bool
  default     = false
  nullable    = false
}

variable "tags" {
  description = "Tags of role and policy."
  type        = map(string)
  default     = {}
  nullable    = false
}
