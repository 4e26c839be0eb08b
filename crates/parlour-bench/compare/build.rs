//! Generates the gRPC service of the contender tonic, without `protoc`.

use tonic_build::manual::{Builder, Method, Service};

fn main() {
    let method = |name, route| {
        Method::builder()
            .name(name)
            .route_name(route)
            .input_type("crate::tonic::Payload")
            .output_type("crate::tonic::Payload")
            .codec_path("tonic_prost::ProstCodec")
    };
    let service = Service::builder()
        .package("parlour.bench")
        .name("Echo")
        .method(method("round_trip", "RoundTrip").build())
        .method(method("one_way", "OneWay").client_streaming().server_streaming().build())
        .build();
    Builder::new().compile(&[service]);
    println!("cargo::rerun-if-changed=build.rs");
}
