import type { Job } from '../../jobs/job.ts'
import { BoundedMap } from '../../primitives/bounded-map.ts'

/** What a stream remembers of a job that it has sent. Small, because every stream remembers many jobs. */
export type SentVersion = Pick<Job, 'id' | 'sequence' | 'status' | 'attempt' | 'cancel_requested'>

const maxSharedVersions = 20_000

/** Saves memory: all streams of a process that have sent the same version of a job share one object. */
export class SentVersionPool {
  readonly #versions = new BoundedMap<SentVersion>(maxSharedVersions)

  versionOf({ id, sequence, status, attempt, cancel_requested }: Job): SentVersion {
    const shared = this.#versions.get(id)
    if (shared?.sequence === sequence) return shared
    const version = { id, sequence, status, attempt, cancel_requested }
    this.#versions.set(id, version)
    return version
  }
}
