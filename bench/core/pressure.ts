import { readFileSync } from 'node:fs'

export interface Pressure {
  /** The percentage of the time in which a runnable task waited for a processor. Undefined without kernel support. */
  cpuPressure?: number
}

/** Starts measuring the CPU pressure of the whole machine. The returned function returns the pressure since then. */
export function startPressure(): () => Pressure {
  const before = stalledMicroseconds()
  const begun = performance.now()
  return () => {
    const after = stalledMicroseconds()
    if (before === undefined || after === undefined) return {}
    return { cpuPressure: (after - before) / 10 / (performance.now() - begun) }
  }
}

/** Reads how long tasks have waited for a processor since boot (Linux, Documentation/accounting/psi.rst). */
function stalledMicroseconds(): number | undefined {
  try {
    const [, total] = readFileSync('/proc/pressure/cpu', 'utf8').match(/^some .*total=(\d+)$/m) ?? []
    return total === undefined ? undefined : Number(total)
  } catch {
    return undefined
  }
}
