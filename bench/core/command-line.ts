/**
 * Parses the arguments of an npm script. If they ask for help, prints the usage and exits. If they are wrong, prints an
 * error and exits with code 2.
 *
 * @param parse returns undefined if the arguments ask for help, and throws if they are wrong
 */
export function parseOrExit<Parsed>(script: string, usage: string, parse: () => Parsed | undefined): Parsed {
  try {
    const parsed = parse()
    if (parsed !== undefined) return parsed
  } catch (error) {
    // Removes the hint that Node.js appends: how to pass a positional argument that begins with a dash.
    const [message] = (error as Error).message.split('. To specify a positional')
    console.error(`error: ${message}\nTo see all options, run: npm run ${script} -- --help`)
    process.exit(2)
  }
  console.log(usage)
  process.exit()
}
