import { BlockList, isIP } from 'node:net'

/**
 * Parses a list of IP addresses and networks in CIDR notation.
 *
 * @throws TypeError that names the invalid entry
 */
export function parseNetworks(networks: readonly string[]): BlockList {
  const list = new BlockList()
  for (const network of networks) {
    const [, address = '', prefix] = network.trim().match(/^([^/]+)(?:\/(\d{1,3}))?$/) ?? []
    const bits = { 0: -1, 4: 32, 6: 128 }[isIP(address)] as number
    if (Number(prefix ?? 0) > bits) throw new TypeError(`'${network}' is neither an IP address nor a network`)
    list.addSubnet(address, Number(prefix ?? bits), bits === 32 ? 'ipv4' : 'ipv6')
  }
  return list
}
