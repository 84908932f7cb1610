/**
 * What clients learn about a job that failed without a `JobFailed`, by the code in `accepted.job.error`. The text in the
 * table is for operators: it may name hosts, paths or rows. A code that is missing here shows as `handler-error`.
 */
export const jobErrors: Readonly<Record<string, string>> = {
  'attempt-timeout': 'The last attempt exceeded the time limit of its operation',
  'invalid-payload': 'The payload of the job does not match the schema of its operation',
  'invalid-result': 'The result of the job does not match the schema of its operation',
  'decryption-key-missing': 'The workers lack the key that decrypts the payload of the job',
  'decryption-failed': 'The payload of the job could not be decrypted',
  'worker-crashed': 'The process or thread that ran the job crashed',
  'worker-lost': 'The worker that ran the job died',
  'children-failed': 'Children of the job failed or were canceled',
  'completed-elsewhere': 'Another program marked the job as completed in the queue; the work of the job was not done',
  'failed-elsewhere': 'Another program marked the job as failed in the queue',
  'queue-lost': 'The job has no row in the queue, so it could not run; send the request again',
  'address-refused': 'The endpoint has an address that webhooks may not call',
  'secret-not-readable': 'The signing secret of the endpoint could not be decrypted',
  'endpoint-refused': 'The endpoint refused the delivery',
  'endpoint-timeout': 'The endpoint did not answer in time',
  'endpoint-unreachable': 'The endpoint could not be reached',
}
