variable "account_id" {
  description = "The 12 digits of the account that owns the key."
  type        = string
  nullable    = false
  validation {
    condition     = can(regex("^[0-9]{12}$", var.account_id))
    error_message = "account_id must be 12 digits."
  }
}

variable "regions" {
  description = "Regions of the key and its replicas."
  type        = list(string)
  nullable    = false
  validation {
    condition     = length(var.regions) > 0
    error_message = "regions must not be empty."
  }
}

variable "organization_id" {
  description = "The organisation that all sharers must belong to (o-…). Null: not checked."
  type        = string
  default     = null
  validation {
    condition     = var.organization_id == null ? true : can(regex("^o-[a-z0-9]{10,32}$", var.organization_id))
    error_message = "organization_id must be as o-abcdefghij."
  }
}

variable "shares" {
  description = "Who of other accounts may use the key, by a name for each. purpose: restore only decrypts; backup also makes data keys and re-encrypts, and lets the services make grants for their resources. expires: RFC 3339, after which nothing is allowed."
  type = map(object({
    account_id         = string
    principals         = list(string)
    purpose            = string
    via_services       = list(string)
    encryption_context = optional(map(list(string)), {})
    expires            = optional(string)
  }))
  nullable = false
  validation {
    condition     = alltrue([for s in var.shares : can(regex("^[0-9]{12}$", s.account_id)) && s.account_id != var.account_id])
    error_message = "account_id of a share must be the 12 digits of another account."
  }
  validation {
    condition     = alltrue([for s in var.shares : length(s.principals) > 0 && alltrue([for p in s.principals : can(regex("^arn:aws[a-z-]*:iam::${s.account_id}:role/[A-Za-z0-9+=,.@_/-]+$", p))])])
    error_message = "principals of a share must be ARNs of roles of its account, without wildcards: never a whole account."
  }
  validation {
    condition     = alltrue([for s in var.shares : contains(["backup", "restore"], s.purpose)])
    error_message = "purpose of a share must be backup or restore."
  }
  validation {
    condition     = alltrue([for s in var.shares : length(s.via_services) > 0])
    error_message = "via_services of a share must name at least one service, such as backup or rds."
  }
  validation {
    condition     = alltrue([for s in var.shares : s.expires == null ? true : can(regex("^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z$", s.expires))])
    error_message = "expires of a share must be a moment in UTC such as 2027-01-31T00:00:00Z."
  }
}
