import type { FastifyInstance } from 'fastify'
import type { ReportError } from '../db/error-reporter.ts'
import { createEndings, type Endings, type EndingsOptions } from '../jobs/endings.ts'
import type { Operation } from '../operation.ts'
import { every } from '../primitives/periodic.ts'

/** A job that SQL has canceled ends within two seconds, even if no worker runs. */
const pollIntervalMs = 1_500

export interface ApiEndings extends Endings {
  /** Called when the `abandon` of an operation has failed for a job. The metrics set it. */
  onFailure(operation: Operation): void
}

/** Ends jobs whose operation has `abandon`: those that a request cancels, and at intervals all others that are due. */
export function openEndings(app: FastifyInstance, report: ReportError, options: EndingsOptions): ApiEndings {
  const onFailure = (operation: Operation) => endings.onFailure(operation)
  const endings: ApiEndings = { ...createEndings({ ...options, onFailure }), onFailure: () => {} }
  if ([...options.operations.values()].some(({ abandon }) => abandon)) {
    const onError = (error: Error) => report(error, 'Ending jobs with abandon failed; trying again')
    const task = every({ intervalMs: pollIntervalMs, run: endings.completeDue, onError })
    app.addHook('onClose', () => task.stop())
  }
  return endings
}
