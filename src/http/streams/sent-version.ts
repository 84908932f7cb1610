import type { Job } from '../../jobs/job.ts'
import { BoundedMap } from '../../primitives/bounded-map.ts'

/** The members of a sent job that a stream remembers. They are few, because every stream remembers many jobs. */
export type SentVersion = Pick<Job, 'id' | 'sequence' | 'status' | 'attempt' | 'cancel_requested'>

const maxSharedVersions = 20_000

/** Saves memory. If several streams of a process have sent the same version of a job, they share one object. */
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
