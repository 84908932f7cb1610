import type { Job } from './job.ts'
import { toMonitor } from './monitor.ts'
import type { Monitor } from './monitor-schema.ts'
import type { Site } from './site.ts'

/** An event in the JSON format of CloudEvents 1.0. */
export interface CloudEvent<Data> {
  specversion: '1.0'
  id: string
  /** The URL of all jobs. */
  source: string
  type: string
  subject: string
  /** ISO 8601. */
  time: string
  datacontenttype: 'application/json'
  data: Data
}

/** The media type of an event in JSON. */
export const cloudEventType = 'application/cloudevents+json; charset=utf-8'

/**
 * Makes the CloudEvent (CloudEvents 1.0) of a job's current status. An event that is delivered again has the same id,
 * so receivers can ignore it.
 *
 * @param site the URLs that the links start with
 * @param estimate when the job will probably end
 * @param result what to show as the result
 */
export function toCloudEvent(job: Job, site: Site, estimate?: Date, result?: unknown): CloudEvent<Monitor> {
  return {
    specversion: '1.0',
    id: `${job.id}/${job.sequence}`,
    source: site.jobs,
    type: `job.${job.status}`,
    subject: job.id,
    time: job.updated_at.toISOString(),
    datacontenttype: 'application/json',
    data: toMonitor(job, site, estimate, result),
  }
}

/** The type of the event that a test of an endpoint sends. */
export const testEventType = 'accepted.test'

/**
 * Makes the event with which a person tests a webhook endpoint.
 *
 * @param id the id of the delivery
 */
export function testEvent(id: string, endpointId: string, site: Site): CloudEvent<{ endpointId: string }> {
  return {
    specversion: '1.0',
    id,
    source: site.jobs,
    type: testEventType,
    subject: endpointId,
    time: new Date().toISOString(),
    datacontenttype: 'application/json',
    data: { endpointId },
  }
}
