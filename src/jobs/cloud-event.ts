import { CloudEvent } from 'cloudevents'
import type { Job } from './job.ts'
import { type Monitor, toMonitor } from './monitor.ts'

/**
 * The state of a job as an event (CloudEvents 1.0): what is told when it ends, or with every change. The same state is
 * the same event, whoever tells it and how often.
 *
 * @param origin scheme and host of the links, without a slash at the end
 * @param estimate when it will probably have ended
 */
export function toCloudEvent(job: Job, origin: string, estimate?: Date): CloudEvent<Monitor> {
  return new CloudEvent({
    specversion: '1.0',
    id: `${job.id}/${job.sequence}`,
    source: `${origin}/jobs`,
    type: `job.${job.state}`,
    subject: job.id,
    time: job.updated_at.toISOString(),
    datacontenttype: 'application/json',
    data: toMonitor(job, origin, estimate),
  })
}
