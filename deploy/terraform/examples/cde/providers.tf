terraform {
  required_version = ">= 1.9, < 2.0"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 6.0"
    }
  }
  # Keep the state encrypted and locked: it has the ARNs of all keys, and with CloudHSM a password that KMS has changed
  # since. Fill in and take away the comment signs:
  # backend "s3" {
  #   bucket       = "…"
  #   key          = "cde.tfstate"
  #   region       = "…"
  #   encrypt      = true
  #   kms_key_id   = "…"
  #   use_lockfile = true
  # }
}

# Credentials come from the environment, never from here.
provider "aws" {
  region                      = var.region
  skip_credentials_validation = var.offline
  skip_requesting_account_id  = var.offline
  skip_metadata_api_check     = var.offline || var.endpoint != null
  allowed_account_ids         = var.offline ? null : [var.account_id]

  dynamic "endpoints" {
    for_each = var.endpoint == null ? [] : [var.endpoint]
    content {
      kms = endpoints.value
      sts = endpoints.value
    }
  }
}

provider "aws" {
  alias                       = "dr"
  region                      = var.replica_region
  skip_credentials_validation = var.offline
  skip_requesting_account_id  = var.offline
  skip_metadata_api_check     = var.offline || var.endpoint != null
  allowed_account_ids         = var.offline ? null : [var.account_id]

  dynamic "endpoints" {
    for_each = var.endpoint == null ? [] : [var.endpoint]
    content {
      kms = endpoints.value
      sts = endpoints.value
    }
  }
}
