# Builds and installs the programs `parlour` and `parlour-bridge`, with their manual pages, completions and units, and
# the C library:
#
#     make
#     sudo make install PREFIX=/usr/local
#
# `install-cli`, `install-bridge` and `install-c` install one of them. DESTDIR is prepended to every path, for packages.
# The first step requires Rust and a C compiler. The second one builds nothing, and needs neither: it installs what is
# in BUILT. crates/parlour-c/Makefile has more about the library.

PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
DATADIR ?= $(PREFIX)/share
MANDIR ?= $(DATADIR)/man
UNITDIR ?= $(PREFIX)/lib/systemd/system
BASHDIR ?= $(DATADIR)/bash-completion/completions
ZSHDIR ?= $(DATADIR)/zsh/site-functions
FISHDIR ?= $(DATADIR)/fish/vendor_completions.d
DESTDIR ?=
CARGO ?= cargo
INSTALL ?= install
# The directory of the programs and the libraries.
BUILT ?= $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)/release

# The file of the completions of each shell, for the program `$p`.
COMPLETIONS = bash:$(BASHDIR)/$$p zsh:$(ZSHDIR)/_$$p fish:$(FISHDIR)/$$p.fish

.PHONY: build install install-cli install-bridge install-c is-built uninstall

build:
	"$(CARGO)" build --release --locked --package parlour-cli --package parlour-bridge --package parlour-c

install: install-cli install-bridge install-c

is-built:
	@for file in parlour parlour-bridge libparlour_c.a libparlour_c.so; do \
		test -e "$(BUILT)/$$file" || { \
			echo "$(BUILT)/$$file does not exist: run 'make' as the user who has Rust, or set BUILT" >&2; exit 1; }; \
	done

# The programs print their manual pages and completions.
define install-program
	$(INSTALL) -d "$(DESTDIR)$(BINDIR)" "$(DESTDIR)$(MANDIR)/man1"
	$(INSTALL) -m 755 "$(BUILT)/$(1)" "$(DESTDIR)$(BINDIR)"
	"$(BUILT)/$(1)" man > "$(DESTDIR)$(MANDIR)/man1/$(1).1"
	chmod 644 "$(DESTDIR)$(MANDIR)/man1/$(1).1"
	p=$(1); for each in $(COMPLETIONS); do \
		file="$(DESTDIR)$${each#*:}"; \
		$(INSTALL) -d "$${file%/*}" && "$(BUILT)/$(1)" completions "$${each%%:*}" > "$$file" && \
			chmod 644 "$$file" || exit; \
	done
endef

install-cli: is-built
	$(call install-program,parlour)

# The units of the documentation run the program from /usr/local/bin.
install-bridge: is-built
	$(call install-program,parlour-bridge)
	$(INSTALL) -d "$(DESTDIR)$(UNITDIR)"
	for unit in parlour-bridge.service parlour-bridge@.service; do \
		sed -e 's|/usr/local/bin/|$(BINDIR)/|' -e 's|^# \(.*\) Directory:$$|# \1|' \
			-e 's| Directory: /etc/systemd/system/\.||; s|^# /etc/systemd/system/\. |# |' \
			"docs/systemd/$$unit" > "$(DESTDIR)$(UNITDIR)/$$unit" && \
		chmod 644 "$(DESTDIR)$(UNITDIR)/$$unit" || exit; \
	done

install-c: is-built
	$(MAKE) -C crates/parlour-c install BUILT="$(abspath $(BUILT))" PREFIX="$(PREFIX)" DESTDIR="$(abspath $(DESTDIR))"

uninstall:
	for p in parlour parlour-bridge; do \
		rm -f "$(DESTDIR)$(BINDIR)/$$p" "$(DESTDIR)$(MANDIR)/man1/$$p.1"; \
		for each in $(COMPLETIONS); do \
			rm -f "$(DESTDIR)$${each#*:}"; \
		done; \
	done
	rm -f "$(DESTDIR)$(UNITDIR)/parlour-bridge.service" "$(DESTDIR)$(UNITDIR)/parlour-bridge@.service"
	$(MAKE) -C crates/parlour-c uninstall PREFIX="$(PREFIX)" DESTDIR="$(abspath $(DESTDIR))"
