import type { Job } from '../../jobs/job.ts'
import { BoundedMap } from '../../primitives/bounded-map.ts'

/** The members of a sent job that a stream remembers. They are few, because every stream remembers many jobs. */
export type SentVersion = Pick<Job, 'id' | 'sequence' | 'status' | 'attempt' | 'coalesced' | 'cancel_requested'> & {
  /** False for a job in a snapshot, and for a job that has no result. */
  hasResult: boolean
}

const maxSharedVersions = 20_000

/** Saves memory. If several streams of a process have sent the same version of a job, they share one object. */
export class SentVersionPool {
  readonly #versions = new BoundedMap<SentVersion>(maxSharedVersions)

  versionOf({ id, sequence, status, attempt, coalesced, cancel_requested, result }: Job): SentVersion {
    const shared = this.#versions.get(id)
    const hasResult = result !== null
    if (shared?.sequence === sequence && shared.hasResult === hasResult) return shared
    const version = { id, sequence, status, attempt, coalesced, cancel_requested, hasResult }
    this.#versions.set(id, version)
    return version
  }
}
