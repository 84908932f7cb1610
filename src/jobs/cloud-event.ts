import { CloudEvent } from 'cloudevents'
import type { Job } from './job.ts'
import { type Monitor, toMonitor } from './monitor.ts'

/**
 * Makes the CloudEvent (CloudEvents 1.0) of a job's current status. An event that is delivered again has the same id,
 * so receivers can ignore it.
 *
 * @param origin scheme and host of the links, without a trailing slash
 * @param estimate when the job will probably end
 */
export function toCloudEvent(job: Job, origin: string, estimate?: Date): CloudEvent<Monitor> {
  return new CloudEvent({
    specversion: '1.0',
    id: `${job.id}/${job.sequence}`,
    source: `${origin}/jobs`,
    type: `job.${job.status}`,
    subject: job.id,
    time: job.updated_at.toISOString(),
    datacontenttype: 'application/json',
    data: toMonitor(job, origin, estimate),
  })
}
