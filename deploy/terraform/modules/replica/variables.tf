variable "environment" {
  description = "The environment, as in service-keys."
  type        = string
  nullable    = false
  validation {
    condition     = can(regex("^[a-z][a-z0-9]{1,15}$", var.environment))
    error_message = "environment must be 2 to 16 lower-case letters and digits, a letter first."
  }
}

variable "keys" {
  description = "The primary keys, which must be multi-Region keys, and their policies: outputs key_arns and policies of service-keys, by name."
  type = map(object({
    primary_key_arn = string
    policy          = string
    service         = optional(string)
    pci_scope       = optional(bool, true)
  }))
  nullable = false
}

variable "deletion_window_in_days" {
  description = "How long a replica that was scheduled for deletion can still be saved, in days: 7 to 30."
  type        = number
  default     = 30
  nullable    = false
  validation {
    condition     = var.deletion_window_in_days >= 7 && var.deletion_window_in_days <= 30
    error_message = "deletion_window_in_days must be 7 to 30."
  }
}

variable "tags" {
  description = "More tags. Environment, Service and PCIScope are always set: a replica has its own tags, not the primary's."
  type        = map(string)
  default     = {}
  nullable    = false
  validation {
    condition     = length(setintersection(keys(var.tags), ["Environment", "Service", "PCIScope"])) == 0
    error_message = "tags must not set Environment, Service or PCIScope: they follow from the key."
  }
}
