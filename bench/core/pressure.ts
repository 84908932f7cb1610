import { readFileSync } from 'node:fs'

/** How much of the time something that could run had to wait for a processor. */
export interface Pressure {
  /** Percent; undefined where the kernel does not tell. */
  cpuPressure?: number
}

/** Begins to look at how busy the machine is, with us and with others; the answer is of the time until it is called. */
export function startPressure(): () => Pressure {
  const before = stalled()
  const begun = performance.now()
  return () => {
    const after = stalled()
    if (before === undefined || after === undefined) return {}
    return { cpuPressure: (after - before) / 10 / (performance.now() - begun) }
  }
}

/** In microseconds, since the machine started (Linux, Documentation/accounting/psi.rst). */
function stalled(): number | undefined {
  try {
    const [, total] = readFileSync('/proc/pressure/cpu', 'utf8').match(/^some .*total=(\d+)$/m) ?? []
    return total === undefined ? undefined : Number(total)
  } catch {
    return undefined
  }
}
