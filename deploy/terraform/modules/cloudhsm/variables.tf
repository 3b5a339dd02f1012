variable "name" {
  description = "Name of the cluster, the key store and the security group."
  type        = string
  default     = "cde"
  nullable    = false
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,40}$", var.name))
    error_message = "name must be 2 to 41 lower-case letters, digits and hyphens, a letter first."
  }
}

variable "cluster_id" {
  description = "A cluster that exists, in place of a new one."
  type        = string
  default     = null
  validation {
    condition     = var.cluster_id == null ? true : can(regex("^cluster-[a-z2-7]{11,16}$", var.cluster_id))
    error_message = "cluster_id must be as cluster-2a3b4c5d6e7."
  }
}

variable "vpc_id" {
  description = "The VPC of a new cluster."
  type        = string
  default     = null
}

variable "subnet_ids" {
  description = "Private subnets of a new cluster, each in another availability zone. KMS needs HSMs in two."
  type        = list(string)
  default     = []
  nullable    = false
  validation {
    condition     = var.cluster_id != null || (length(var.subnet_ids) >= 2 && var.vpc_id != null)
    error_message = "A new cluster needs vpc_id and two subnet_ids at least: KMS connects no store with fewer than two HSMs."
  }
}

variable "hsm_type" {
  description = "Type of the HSMs of a new cluster."
  type        = string
  default     = "hsm2m.medium"
  nullable    = false
  validation {
    condition     = contains(["hsm1.medium", "hsm2m.medium"], var.hsm_type)
    error_message = "hsm_type must be hsm1.medium or hsm2m.medium."
  }
}

variable "initialized" {
  description = "Whether the new cluster has been initialised by its custodians: the second HSM is made only then, as AWS wants it."
  type        = bool
  default     = false
  nullable    = false
}

variable "trust_anchor_certificate" {
  description = "The certificate with which the custodians signed the cluster (PEM). With it the custom key store is made."
  type        = string
  default     = null
  validation {
    condition     = var.trust_anchor_certificate == null ? true : startswith(var.trust_anchor_certificate, "-----BEGIN CERTIFICATE-----")
    error_message = "trust_anchor_certificate must be a certificate in PEM."
  }
}

variable "key_store_password" {
  description = "Password of the crypto user kmsuser, 7 to 32 characters. It is in Terraform's state: KMS changes it when it connects the store, so it is of no use afterwards."
  type        = string
  default     = null
  sensitive   = true
  validation {
    condition     = var.trust_anchor_certificate == null ? true : var.key_store_password != null
    error_message = "The custom key store needs key_store_password."
  }
  validation {
    condition     = var.key_store_password == null ? true : length(var.key_store_password) >= 7 && length(var.key_store_password) <= 32
    error_message = "key_store_password must be 7 to 32 characters."
  }
}

variable "connected" {
  description = "Whether the custom key store has been connected (aws kms connect-custom-key-store, which Terraform cannot do): keys are made only then."
  type        = bool
  default     = false
  nullable    = false
  validation {
    condition     = !var.connected || var.trust_anchor_certificate != null
    error_message = "connected needs trust_anchor_certificate: there is no store without it."
  }
}

variable "tags" {
  description = "Tags."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "keys" {
  description = "Keys in the custom key store, by service as in service-keys. AWS does not rotate them."
  type = map(object({
    users              = list(string)
    kind               = optional(string)
    via_services       = optional(list(string))
    encryption_context = optional(map(list(string)), {})
    tags               = optional(map(string), {})
  }))
  default  = {}
  nullable = false
}

variable "account_id" {
  description = "The 12 digits of the account that owns the keys."
  type        = string
  nullable    = false
}

variable "region" {
  description = "The Region of the cluster: that of the provider."
  type        = string
  nullable    = false
}

variable "environment" {
  description = "The environment, as in service-keys."
  type        = string
  default     = "cde"
  nullable    = false
}

variable "administrators" {
  description = "ARNs of roles and users who administer the keys, with a second factor."
  type        = list(string)
  nullable    = false
}

variable "provisioners" {
  description = "ARNs of roles by which Terraform itself runs."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "vpc_endpoint_ids" {
  description = "VPC endpoints through which keys for direct use may be used."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "allowed_cidrs" {
  description = "Networks from which keys for direct use may be used, besides vpc_endpoint_ids."
  type        = list(string)
  default     = []
  nullable    = false
}
