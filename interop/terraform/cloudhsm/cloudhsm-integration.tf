# Custom key stores: keys of the CDE stay in an HSM. Terraform makes a store, but
# connects none; that is done between the stages, as with AWS.
terraform {
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

variable "endpoint" {
  type = string
}

variable "stage" {
  description = "1 makes the stores, 2 a key in one of them, which is then connected"
  type        = number
  default     = 1
}

variable "password" {
  type      = string
  sensitive = true
}

variable "trust_anchor" {
  type = string
}

provider "aws" {
  region                  = "us-east-1"
  skip_metadata_api_check = true
  endpoints {
    kms = var.endpoint
    sts = var.endpoint
  }
}

resource "aws_kms_custom_key_store" "cde" {
  custom_key_store_name    = var.stage == 1 ? "cde" : "cde in use"
  cloud_hsm_cluster_id     = "cluster-2a3b4c5d6e7"
  key_store_password       = var.password
  trust_anchor_certificate = var.trust_anchor
}

resource "aws_kms_custom_key_store" "spare" {
  custom_key_store_name    = "spare"
  cloud_hsm_cluster_id     = "cluster-2a3b4c5d6e6"
  key_store_password       = var.password
  trust_anchor_certificate = var.trust_anchor
}

data "aws_kms_custom_key_store" "spare" {
  custom_key_store_id = aws_kms_custom_key_store.spare.id
}

resource "aws_kms_key" "rds_cde" {
  count                   = var.stage == 2 ? 1 : 0
  description             = "CMK of rds-cde"
  custom_key_store_id     = aws_kms_custom_key_store.cde.id
  deletion_window_in_days = 7
  tags                    = { Environment = "CDE", Service = "RDS", PCIScope = "true" }
}

resource "aws_kms_ciphertext" "dek" {
  count     = var.stage == 2 ? 1 : 0
  key_id    = aws_kms_key.rds_cde[0].key_id
  plaintext = "a data key"
}

output "stores" {
  value = {
    cde   = aws_kms_custom_key_store.cde.id
    spare = data.aws_kms_custom_key_store.spare.custom_key_store_name
  }
}
