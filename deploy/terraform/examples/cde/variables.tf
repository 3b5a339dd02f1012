variable "account_id" {
  description = "The 12 digits of the account."
  type        = string
}

variable "region" {
  description = "The Region of the CDE."
  type        = string
  default     = "us-east-1"
}

variable "replica_region" {
  description = "The Region for recovery."
  type        = string
  default     = "eu-west-1"
}

variable "environment" {
  description = "The environment."
  type        = string
  default     = "cde"
}

variable "administrators" {
  description = "ARNs of those who administer keys, with a second factor."
  type        = list(string)
}

variable "provisioners" {
  description = "ARNs of roles by which Terraform runs without a second factor."
  type        = list(string)
  default     = []
}

variable "applications" {
  description = "ARNs of the roles that use the keys of RDS, EBS, S3 and Secrets Manager."
  type        = map(list(string))
}

variable "file_users" {
  description = "ARNs of roles that encrypt and decrypt files with cardea encrypt and cardea decrypt."
  type        = list(string)
  default     = []
}

variable "tenants" {
  description = "The vault's tenants and their modes."
  type        = map(object({ mode = string }))
}

variable "recovery" {
  description = "Another account that restores backups, and its roles. Null: none."
  type = object({
    account_id = string
    principals = list(string)
    expires    = optional(string)
  })
  default = null
}

variable "organization_id" {
  description = "The organisation, or null."
  type        = string
  default     = null
}

variable "vpc_id" {
  description = "The VPC of the vault."
  type        = string
  default     = null
}

variable "subnet_ids" {
  description = "Private subnets of the CDE."
  type        = list(string)
  default     = []
}

variable "vault_security_group_id" {
  description = "Security group of the vault."
  type        = string
  default     = null
}

variable "allowed_cidrs" {
  description = "Networks from which keys may be used, besides the VPC endpoint: none on AWS, loopback with a key service of your own."
  type        = list(string)
  default     = []
}

variable "log_bucket_name" {
  description = "Name of the bucket of the logs."
  type        = string
  default     = null
}

variable "log_readers" {
  description = "ARNs of roles that read the logs: the SIEM's."
  type        = list(string)
  default     = []
}

variable "alarm_mail" {
  description = "Address that gets the alarms, or null."
  type        = string
  default     = null
}

variable "hsm_trust_anchor" {
  description = "Certificate of the custodians (PEM); null until the cluster has been initialised."
  type        = string
  default     = null
}

variable "hsm_password" {
  description = "Password of kmsuser."
  type        = string
  default     = null
  sensitive   = true
}

variable "hsm_connected" {
  description = "Whether the custom key store has been connected."
  type        = bool
  default     = false
}

variable "deletion_window_in_days" {
  description = "How long keys that were scheduled for deletion can still be saved, in days."
  type        = number
  default     = 30
}

variable "only_keys" {
  description = "Whether to make keys, aliases and replicas alone: with a key service of your own there is nothing else."
  type        = bool
  default     = false
}

variable "cloudhsm" {
  description = "Whether to make an HSM cluster, which costs some thousand dollars a month."
  type        = bool
  default     = false
}

variable "endpoint" {
  description = "A key service with the API of AWS KMS in place of AWS, such as http://127.0.0.1:4599. Null: AWS."
  type        = string
  default     = null
}

variable "offline" {
  description = "For plans without credentials and network, in tests."
  type        = bool
  default     = false
}
