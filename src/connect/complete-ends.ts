import type { ReportError } from '../db/error-reporter.ts'
import { createEndings, type Endings, type EndingsOptions } from '../jobs/endings.ts'
import type { Operation } from '../operation.ts'
import { every } from '../primitives/periodic.ts'

/** A job that SQL has canceled ends within two seconds, even if no worker runs. */
const pollIntervalMs = 1_500

export interface ApiEndings extends Endings {
  /** Called when the `abandon` of an operation has failed for a job. The metrics set it. */
  onFailure(operation: Operation): void
  close(): Promise<void>
}

/** Ends jobs whose operation has `abandon`: those that a caller cancels, and at intervals all others that are due. */
export function openEndings(report: ReportError, options: EndingsOptions): ApiEndings {
  const onFailure = (operation: Operation) => endings.onFailure(operation)
  const created = createEndings({ ...options, onFailure })
  const onError = (error: Error) => report(error, 'Ending jobs with abandon failed; trying again')
  const isNeeded = [...options.operations.values()].some(({ abandon }) => abandon)
  const task = isNeeded ? every({ intervalMs: pollIntervalMs, run: created.completeDue, onError }) : undefined
  const endings: ApiEndings = { ...created, onFailure: () => {}, close: async () => task?.stop() }
  return endings
}
