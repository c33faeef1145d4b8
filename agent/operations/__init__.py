"""One file per verb: named steps over ports. Knows no boto3, no subprocess and no adapter."""
