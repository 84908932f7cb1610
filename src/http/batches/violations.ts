import { ProblemError } from '../../errors.ts'

/** A violation in a body. The pointer (RFC 6901) leads to the value. */
export interface BodyViolation {
  pointer: string
  keyword: string
  message?: string | undefined
}

const maxViolations = 100
/** Above this total length of the pointers, no more violations are reported. A body can have very long names. */
const maxPointersLength = 64 * 1024

/** Collects the violations of a batch. */
export class BatchViolations {
  readonly #details: BodyViolation[] = []
  #pointersLength = 0

  get isEmpty(): boolean {
    return this.#details.length === 0
  }

  /** @throws ProblemError invalid-body, once there are too many to report */
  add(violation: BodyViolation): void {
    this.#details.push(violation)
    this.#pointersLength += violation.pointer.length
    if (this.#details.length >= maxViolations || this.#pointersLength > maxPointersLength) this.throwIfAny()
  }

  /** Adds violations whose pointers start at a member of the body. */
  addAll(pointer: string, violations: readonly unknown[]): void {
    for (const violation of violations as readonly BodyViolation[]) {
      this.add({ ...violation, pointer: pointer + violation.pointer })
    }
  }

  /** @throws ProblemError invalid-body */
  throwIfAny(): void {
    if (!this.isEmpty) throw new ProblemError('invalid-body', undefined, { details: this.#details })
  }
}
